package embedded

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// onBoth runs f with miniredis and with the real thing.
func onBoth(t *testing.T, f func(t *testing.T, c *redis.Client, real bool)) {
	run := func(t *testing.T, addr string, real bool) {
		c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, ClientName: "sluice-test"})
		defer c.Close()
		f(t, c, real)
	}
	t.Run("miniredis", func(t *testing.T) {
		r, err := StartRedis("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		run(t, r.Addr(), false)
	})
	t.Run("redis", func(t *testing.T) { run(t, TestRedisProcess(t).Addr(), true) })
}

// receive returns the next n messages, or pongs, as "pattern|channel|payload".
func receive(t *testing.T, ps *redis.PubSub, n int) (got []string) {
	t.Helper()
	for len(got) < n {
		msg, err := ps.ReceiveTimeout(t.Context(), wait)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		switch m := msg.(type) {
		case *redis.Message:
			got = append(got, m.Pattern+"|"+m.Channel+"|"+m.Payload)
		case *redis.Pong:
			got = append(got, "pong|"+m.Payload)
		}
	}
	return got
}

func confirmed(t *testing.T, ps *redis.PubSub) *redis.PubSub {
	t.Helper()
	t.Cleanup(func() { _ = ps.Close() })
	if msg, err := ps.ReceiveTimeout(t.Context(), wait); err != nil {
		t.Fatal(err)
	} else if _, ok := msg.(*redis.Subscription); !ok {
		t.Fatalf("%T instead of a confirmation", msg)
	}
	return ps
}

func TestPubSubOfAnyBytes(t *testing.T) {
	names := []string{"a", "game:room1:p7", "\x00", "\r\n", "a b", "\xff\xfe", "é", "*", "[", "\\", strings.Repeat("n", 5000)}
	onBoth(t, func(t *testing.T, c *redis.Client, _ bool) {
		for _, name := range names {
			exact := confirmed(t, c.Subscribe(t.Context(), name))
			all := confirmed(t, c.PSubscribe(t.Context(), "*"))
			payloads := []string{"", "1", "\x00\xff\r\n$3\r\nabc\r\n", strings.Repeat("x", 1<<20), "2"}
			for _, p := range payloads {
				if n, err := c.Publish(t.Context(), name, p).Result(); err != nil || n != 2 {
					t.Fatalf("publish on %q: %d, %v", name, n, err)
				}
			}
			for i, got := range receive(t, exact, len(payloads)) {
				if got != "|"+name+"|"+payloads[i] {
					t.Errorf("subscribe %q: message %d is %.100q", name, i, got)
				}
			}
			for i, got := range receive(t, all, len(payloads)) {
				if got != "*|"+name+"|"+payloads[i] {
					t.Errorf("psubscribe: message %d on %q is %.100q", i, name, got)
				}
			}
			_, _ = exact.Close(), all.Close()
			eventually(t, "both are gone", func() bool {
				n, err := c.PubSubNumPat(t.Context()).Result()
				m, err2 := c.PubSubNumSub(t.Context(), name).Result()
				return err == nil && err2 == nil && n == 0 && m[name] == 0
			})
		}
	})
}

func TestPingWhileSubscribed(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client, _ bool) {
		ps := confirmed(t, c.Subscribe(t.Context(), "a"))
		for _, payload := range []string{"", "nonce"} {
			if err := ps.Ping(t.Context(), payload); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, ps, 1); got[0] != "pong|"+payload {
				t.Error(got)
			}
		}
	})
}

func TestClientName(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client, real bool) {
		// go-redis sends the name twice: in HELLO and in CLIENT SETNAME.
		if name, err := c.ClientGetName(t.Context()).Result(); err != nil || name != "sluice-test" {
			t.Errorf("%q, %v", name, err)
		}
	})
}

// The differences that tests of the bridge could stumble over, so that the
// package's documentation stays true.
func TestWhereMiniredisIsNotRedis(t *testing.T) {
	onBoth(t, func(t *testing.T, c *redis.Client, real bool) {
		f := func(channel string, inRedis, inMini int64, patterns ...string) {
			t.Helper()
			ps := confirmed(t, c.PSubscribe(t.Context(), patterns...))
			for range patterns[1:] {
				confirmed(t, ps)
			}
			want := inMini
			if real {
				want = inRedis
			}
			if got, err := c.Publish(t.Context(), channel, "x").Result(); err != nil || got != want {
				t.Errorf("%q on %q: %d copies, %v, want %d", patterns, channel, got, err, want)
			}
			_ = ps.Close()
			eventually(t, "it is gone", func() bool {
				n, err := c.PubSubNumPat(t.Context()).Result()
				return err == nil && n == 0
			})
		}
		f("abc", 1, 1, "a*")
		f("abc", 1, 1, "a[^x]?")
		f("a\nb", 1, 1, "a?b")
		f("abc", 2, 1, "a*", "*c")
		f("", 0, 1, "*")
		f("é", 0, 1, "?")
		f("é", 1, 0, "??")
		f("5", 0, 1, `[\d]`)
		f("-", 0, 1, "[a-]")
		f(`a\`, 1, 0, `a\`)
	})
}

// A stuck subscriber stops miniredis; it must not stop Close.
func TestRedisCloseWithAStuckSubscriber(t *testing.T) {
	t.Parallel()
	r, err := StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stuck, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := stuck.Write([]byte("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n")); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer c.Close()
	eventually(t, "subscribed", func() bool { return c.PubSubNumSub(t.Context(), "a").Val()["a"] == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for err = nil; err == nil; {
		err = c.Publish(ctx, "a", strings.Repeat("x", 1<<20)).Err()
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		r.Close()
	}()
	select {
	case <-closed:
	case <-time.After(wait):
		t.Fatal("Close hangs")
	}
}

func TestRedisRestart(t *testing.T) {
	r, err := StartRedis("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := StartRedis(r.Addr()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("taken port: %v", err)
	}
	opt, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	defer c.Close()
	for range 2 {
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := r.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	r.Close()
	r.Close()
	if conn, err := net.Dial("tcp", r.Addr()); err == nil {
		conn.Close()
		t.Error("still listening after Close")
	}
}
