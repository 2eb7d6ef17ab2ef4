package publisher

import (
	"testing"

	"sluice/shared/certs"

	"github.com/redis/go-redis/v9"
)

// A command that is tried again after a lost answer is published twice.
func TestOpenTriesOnce(t *testing.T) {
	f := func(url string, want int) {
		t.Helper()
		c, err := Open(url, certs.Client{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.(*redis.Client).Options().MaxRetries; got != want {
			t.Errorf("%s: %d retries, want %d", url, got, want)
		}
	}
	f("redis://127.0.0.1:1", 0)
	f("redis://user:p%3Fw@127.0.0.1:1/2", 0)
	f("redis://127.0.0.1:1?pool_size=3", 0)
	f("unix:///tmp/redis.sock?db=1", 0)
	f("redis://127.0.0.1:1?max_retries=2", 2) // whoever asks for it
}
