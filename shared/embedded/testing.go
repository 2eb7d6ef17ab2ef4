package embedded

import (
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisServer is what TestRedis returns: a *Process, which is a real Redis, or
// a *Redis, which is not.
type RedisServer interface {
	Addr() string
	URL() string
	Stop() error    // the port stays reserved for Restart, elsewhere than on Linux by luck
	Restart() error // on the same port
}

var (
	_ RedisServer = (*Process)(nil)
	_ RedisServer = (*Redis)(nil)
)

// NeedProgram returns the path of the program called name. Without it the test
// is skipped, but fails where CI=true: there a skipped test is a lost one.
func NeedProgram(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if name == "redis-server" && err != nil {
		if found, ok := FindRedisServer(); ok {
			return found
		}
	}
	if err != nil {
		missing(tb, name)
	}
	return path
}

func missing(tb testing.TB, name string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf("needs the program %s, which must be there when CI=true", name)
	}
	tb.Skipf("needs the program %s", name)
}

// TestAddr returns an address at which nobody listens. As long as the test runs it is
// nobody else's, except by luck elsewhere than on Linux, and the test may listen there.
func TestAddr(tb testing.TB) string {
	tb.Helper()
	port, release, err := holdPort()
	must(tb, err)
	tb.Cleanup(release)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// TestRedis starts a Redis for the test: the real program where there is one,
// miniredis otherwise, which is a failure where CI=true. It ends with the test,
// and a failed test shows its output.
func TestRedis(tb testing.TB) RedisServer {
	tb.Helper()
	if _, ok := FindRedisServer(); ok {
		return TestRedisProcess(tb)
	}
	if os.Getenv("CI") == "true" {
		missing(tb, "redis-server")
	}
	tb.Log("no redis-server: using miniredis")
	r, err := StartRedis(TestAddr(tb))
	must(tb, err)
	tb.Cleanup(r.Close)
	return r
}

// TestRedisProcess starts a real Redis for the test, or skips it like
// NeedProgram.
func TestRedisProcess(tb testing.TB, args ...string) *Process {
	tb.Helper()
	NeedProgram(tb, "redis-server")
	p, err := StartRedisProcess(tb.Context(), tb.TempDir(), args...)
	return ended(tb, p, err)
}

// TestRedisClient returns a client that is closed after the test, with short
// limits: a server that is stopped or cut off holds up nothing for long.
func TestRedisClient(tb testing.TB, r RedisServer) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), Protocol: 2, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, ContextTimeoutEnabled: true})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNATS starts a NATS server in this process for the test.
func TestNATS(tb testing.TB) *NATS {
	tb.Helper()
	return TestNATSWith(tb, NATSOptions{})
}

// TestNATSWith is TestNATS with options. Without a StoreDir it has one of the test's.
func TestNATSWith(tb testing.TB, o NATSOptions) *NATS {
	tb.Helper()
	if o.StoreDir == "" {
		o.StoreDir = tb.TempDir()
	}
	n, err := StartNATS(o)
	must(tb, err)
	tb.Cleanup(func() {
		if err := n.Shutdown(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

// TestNATSProcess starts a NATS server as a child process for the test: one
// that can be killed. o.Dir is set if it is empty.
func TestNATSProcess(tb testing.TB, o NATSProcessOptions) *Process {
	tb.Helper()
	path, err := BuildNATSServer("")
	if err != nil {
		tb.Fatal(err)
	}
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	p, err := StartNATSProcess(tb.Context(), path, o)
	return ended(tb, p, err)
}

// TestProgram runs another program of Debian's for the test, or skips it like
// NeedProgram. args are to keep it in the foreground, on a loopback port that was
// free; ready tells whether it is this one that answers there. At the end it gets
// SIGTERM first: it may have children of its own.
func TestProgram(tb testing.TB, name string, args func(port int) []string, ready func(ctx context.Context, addr string) error) *Process {
	tb.Helper()
	p := &Process{name: name, path: NeedProgram(tb, name), args: args,
		ready: func(ctx context.Context, addr string, _ int) error { return ready(ctx, addr) }}
	started, err := p.launch(tb.Context())
	p = ended(tb, started, err)
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// TestRun runs a worker until stop is called or the test ends, and demands that it ends
// without an error. stop waits for its end.
func TestRun(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			tb.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	tb.Cleanup(stop)
	return stop
}

func ended(tb testing.TB, p *Process, err error) *Process {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Kill(); err != nil {
			tb.Error(err)
		}
		p.letGo()
		if tb.Failed() {
			tb.Logf("last lines of %s:\n%s", p.name, lastLines(p.Output(), 30))
		}
	})
	return p
}

// lastLines is the end of a text: of a test that failed its own words are to be found
// among those of its programs.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// TestsAtOnce sets how many parallel tests of a package run at once, for TestMain: most
// of ours wait, and the default, one for each processor, would let the processors wait
// too. It is another number where CI=true: there the race detector and slow machines
// leave less to wait for, and some tests count on times of the product's. A -parallel on
// the command line counts more.
func TestsAtOnce(n, inCI int) {
	if os.Getenv("CI") == "true" {
		n = inCI
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
			panic(err)
		}
	}
}
