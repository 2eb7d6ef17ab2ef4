package natsconn

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/shared/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValidateAndRedact(t *testing.T) {
	for _, bad := range []string{"", "localhost", "://x", "nats://a:1,", "nats://user:secret@"} {
		err := Settings{URL: bad}.Validate()
		if err == nil || !strings.Contains(err.Error(), "NATS_URL=") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for urls, want := range map[string]string{
		"nats://u:p@a:1, tls://t@b:2,nats://c:3": "nats://***@a:1,tls://***@b:2,nats://c:3",
		"nats://u:p@q@a:1":                       "nats://***@a:1",
		"nats://c:3,u:p@d":                       "***", // a password with a comma?
		"nats://u:p,q@a:1":                       "***",
		"u:p@d":                                  "***",
		"nats://u:secret":                        "nats://***",
		"localhost":                              "localhost",
		"http://x":                               "http://x",
		"":                                       "",
	} {
		if got := Redact(urls); got != want {
			t.Errorf("%s: got %s, want %s", urls, got, want)
		}
	}
}

func TestDelay(t *testing.T) {
	for attempt := range 100 {
		if d := delay(attempt); d < firstDelay/2 || d > maxDelay {
			t.Errorf("attempt %d: %s", attempt, d)
		}
	}
}

// The server is not there, comes, goes and comes again.
func TestComesBack(t *testing.T) {
	s, err := embedded.StartNATS(embedded.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log bytes.Buffer
	up, down := make(chan struct{}, 10), make(chan struct{}, 10)
	nc, err := Open(Settings{URL: s.URL()}, "test", slog.New(slog.NewTextHandler(writer(func(b []byte) { mu.Lock(); log.Write(b); mu.Unlock() }), nil)), Hooks{
		Up: func() { up <- struct{}{} }, Down: func() { down <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	await := func(what string, c chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(15 * time.Second):
			t.Fatalf("waited in vain: %s", what)
		}
	}
	for range 2 {
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		await("up", up)
		if err := nc.Publish("x", nil); err != nil {
			t.Error(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		await("down", down)
		if err := nc.Publish("x", nil); err == nil {
			t.Error("a publish was buffered while there is no server")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, text := range []string{"does not answer yet", "NATS connected", "NATS connection lost", "connected again"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("log lacks %q: %s", text, log.String())
		}
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }
