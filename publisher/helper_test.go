package publisher

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"sluice/shared/certs"
	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	embedded.TestsAtOnce(12, 12)
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

// settings are a command's. Tests that run beside each other have their own: the
// environment is one for all of them.
type settings func() (Config, error)

// at are the settings with these servers.
func at(redisURL, natsURL string) settings {
	return func() (Config, error) {
		c := worker.Default[Config]()
		c.Redis.URL, c.NATS.URL = redisURL, natsURL
		return c, nil
	}
}

const (
	// nowhere is the URL of no server, for a command that does not need it.
	nowhere = "none://nowhere"
	// unused is an address where nobody listens: a port that was free a moment ago may
	// be another test's by now.
	unused = "127.0.0.1:1"
)

func (s settings) run(ctx context.Context, stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs embedded.Lines
	code = s.command(ctx, stdin, &out, &errs).run(args)
	return code, out.String(), errs.String()
}

func (s settings) command(ctx context.Context, stdin string, stdout, stderr io.Writer) command {
	return command{ctx: ctx, name: "publisher", load: s, stdin: strings.NewReader(stdin), stdout: stdout, stderr: stderr}
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
