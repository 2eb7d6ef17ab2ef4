package redisconn

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
)

// trustedURL is where TestTLS, run by itself, finds its server: Go reads
// SSL_CERT_FILE only once, so trust needs a process of its own.
const trustedURL = "SLUICE_TEST_TRUSTED_URL"

func TestTLS(t *testing.T) {
	if url := os.Getenv(trustedURL); url != "" {
		find(t, openHome(t, url))
		return
	}
	r := embedded.TestRedisTLS(t)
	url := "rediss://" + r.TLSAddr()
	_, err := openHome(t, url).Find(t.Context())
	mentions(t, err, "certificate")

	s := find(t, openHome(t, url+"?skip_verify=true"))
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	publish(t, open(t, url+"?skip_verify=true"), "a", "1")
	receive(t, ps, "a 1")

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTLS$")
	child.Env = append(os.Environ(), trustedURL+"="+url, "SSL_CERT_FILE="+r.CAFile)
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("with SSL_CERT_FILE: %v\n%s", err, out)
	}
}

// The handshake, too, obeys the context.
func TestTLSObeysItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	c, err := open(t, "rediss://"+l.Addr().String()).Options().Dialer(ctx, "tcp", l.Addr().String())
	if err == nil {
		c.Close()
		t.Error("connected")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
