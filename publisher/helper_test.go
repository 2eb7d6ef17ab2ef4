package publisher

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"sluice/shared/certs"
	"sluice/shared/embedded"
)

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock runs as long as the process, and its worker pool looks
		// every ten seconds whether it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// startRedis starts a Redis for one test, a real one where there is one, and
// points REDIS_URL at it.
func startRedis(t *testing.T) embedded.RedisServer {
	t.Helper()
	s := embedded.TestRedis(t)
	t.Setenv("REDIS_URL", s.URL())
	return s
}

// subscriber stands for the bridge.
type subscriber struct {
	t  *testing.T
	ch <-chan *redis.Message
}

// subscribe returns once Redis has confirmed the patterns.
func subscribe(t *testing.T, url string, patterns ...string) *subscriber {
	t.Helper()
	client, err := Open(url, certs.Client{})
	if err != nil {
		t.Fatal(err)
	}
	ps := client.PSubscribe(context.Background(), patterns...)
	for range patterns {
		if _, err := ps.ReceiveTimeout(context.Background(), patience); err != nil {
			t.Fatalf("subscribe: %v", err)
		}
	}
	ch := ps.Channel(redis.WithChannelSize(1 << 16))
	t.Cleanup(func() {
		ps.Close()
		client.Close()
		for range ch { // its goroutines end with it
		}
	})
	return &subscriber{t, ch}
}

func (s *subscriber) next() *redis.Message {
	s.t.Helper()
	select {
	case m := <-s.ch:
		return m
	case <-time.After(patience):
		s.t.Fatal("no message from redis")
		return nil
	}
}

// run is Main with its output.
func run(ctx context.Context, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs embedded.Lines
	code = Main(ctx, args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// testLog is a log whose lines can be counted.
func testLog() (*slog.Logger, *embedded.Lines) {
	b := &embedded.Lines{}
	return b.Logger(slog.LevelInfo), b
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, patience, f)
}

// embeddedClient is a client with nothing special about it.
func embeddedClient(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := Open(url, certs.Client{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
