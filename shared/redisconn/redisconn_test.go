package redisconn

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"sluice/shared/embedded"
)

func TestMain(m *testing.M) {
	embedded.TestsAtOnce(8, 8)
	// After many failed dials go-redis tries on by itself, and hears of Close only
	// when it has slept for a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const wait = 5 * time.Second

func open(t *testing.T, url string) *redis.Client {
	t.Helper()
	c, err := Open(url, Options{Worker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*redis.Client)
}

func TestOpenSettings(t *testing.T) {
	o := open(t, "redis://u:p%2Fw@127.0.0.1:7777/3").Options()
	if o.Addr != "127.0.0.1:7777" || o.Username != "u" || o.Password != "p/w" || o.DB != 3 {
		t.Errorf("%s %s %s %d", o.Addr, o.Username, o.Password, o.DB)
	}
	if o.Protocol != 2 || !o.DisableIdentity || !o.ContextTimeoutEnabled || o.DialerRetries != 1 || o.MaxRetries != 1 {
		t.Errorf("protocol %d, %+v", o.Protocol, o)
	}
	if o.DialTimeout != DialTimeout || o.ReadTimeout != ReadTimeout || o.WriteTimeout != WriteTimeout || o.MinRetryBackoff != 100*time.Millisecond {
		t.Errorf("dial %v, read %v, write %v, back-off %v", o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MinRetryBackoff)
	}
	if o := open(t, "rediss://h").Options(); o.TLSConfig == nil || o.Addr != "h:6379" {
		t.Errorf("rediss: %+v", o)
	}
	if o := open(t, "unix:///run/redis.sock?db=2").Options(); o.Network != "unix" || o.Addr != "/run/redis.sock" || o.DB != 2 {
		t.Errorf("unix: %+v", o)
	}
	o = open(t, "redis://h?read_timeout=7&client_name=mine&protocol=2").Options()
	if o.ReadTimeout != 7*time.Second || o.ClientName != "mine" {
		t.Errorf("the URL's own settings: %v, %q", o.ReadTimeout, o.ClientName)
	}
}

// refused checks that a URL is refused with an error that has want and none of the
// secrets in it.
func refused(t *testing.T, url, want string, secrets ...string) {
	t.Helper()
	_, err := Open(url, Options{})
	if err == nil {
		t.Errorf("%s: no error", url)
		return
	}
	msg := err.Error()
	if !strings.HasPrefix(msg, "REDIS_URL=") || !strings.Contains(msg, want) {
		t.Errorf("%s: %q, want %q in it", url, msg, want)
	}
	for _, secret := range secrets {
		if strings.Contains(msg, secret) {
			t.Errorf("%s: %q tells the password", url, msg)
		}
	}
}

func TestOpenErrorsNameTheSettingAndHideThePassword(t *testing.T) {
	f := func(url, want string) { t.Helper(); refused(t, url, want, "s3cret") }
	f("", "invalid URL scheme")
	f("localhost:6379", "invalid URL scheme")
	f("http://localhost", "invalid URL scheme: http")
	f("redis://:s3cret@localhost/x", "invalid database number")
	f("redis://:s3cret@localhost?pool_sise=3", "pool_sise")
	f("redis://:s3cret@localhost:port", "invalid port")
	f("redis://:12/s3cret@localhost", "percent-encode")
	f("redis://:1/s3cret/x@localhost", "percent-encode")
	f("redis://:1?s3cret@localhost", "percent-encode")
	f("redis://:s3cret?x@localhost", "percent-encode")
	f("redis://:s3cret%zz@localhost", "percent-encode")
	f("redis://:12#s3cret@localhost", "%23")
	f("redis://:s3cret\x01@localhost", "percent-encode")
	f("default:s3cret@localhost:6379", "invalid URL scheme")
	f("redis://:s3cret@localhost?protocol=3", "protocol=3")
}

func redacted(t *testing.T, url, want string) {
	t.Helper()
	if got := Redact(url); got != want {
		t.Errorf("%s: %s, want %s", url, got, want)
	}
}

func TestRedact(t *testing.T) {
	f := func(url, want string) { t.Helper(); redacted(t, url, want) }
	f("redis://localhost:6379/2", "redis://localhost:6379/2")
	f("redis://u:p@localhost:6379/2", "redis://***@localhost:6379/2")
	f("redis://p@h", "redis://***@h")
	f("redis://:a/b?c#d@e@h/1", "redis://***@h/1")
	f("unix://u:p@/run/x.sock?db=1", "unix://***@/run/x.sock?db=1")
	f("u:p@h", "***@h")
	f("h", "h")
	f("", "")
}

func TestCommandsObeyTheirContext(t *testing.T) {
	// Accepts (the kernel does) and never answers.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := open(t, "redis://"+l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := c.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("ping: %v", err)
	}
	if took := time.Since(start); took > ReadTimeout/2 {
		t.Errorf("took %v", took)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestOpenTalksToRedis(t *testing.T) {
	srv := miniredis.RunT(t)
	srv.RequireUserAuth("bob", "s3cret")
	c := open(t, "redis://bob:s3cret@"+srv.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	wrong := open(t, "redis://bob:wr0ng@"+srv.Addr())
	if err := wrong.Ping(ctx).Err(); err == nil || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("wrong password: %v", err)
	}
}
