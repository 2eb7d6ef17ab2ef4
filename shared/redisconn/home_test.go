package redisconn

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
)

func openHome(t *testing.T, url string) *Home {
	t.Helper()
	h, err := OpenHome(url, Options{Worker: "test", Channel: "sluice:mark"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func find(t *testing.T, h *Home) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	s, err := h.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// subscribed returns once Redis has confirmed all of what subscribe asks for.
func subscribed(t *testing.T, s *Server, n int, subscribe func(*redis.PubSub) error) *redis.PubSub {
	t.Helper()
	ps := s.Subscribe(t.Context())
	t.Cleanup(func() { _ = ps.Close() })
	if err := subscribe(ps); err != nil {
		t.Fatal(err)
	}
	for range n {
		m, err := ps.ReceiveTimeout(t.Context(), wait)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*redis.Subscription); !ok {
			t.Fatalf("%v instead of a confirmation", m)
		}
	}
	return ps
}

// receive leaves out what sentinels tell each other through the master: a
// subscription to all channels gets that too.
func receive(t *testing.T, ps *redis.PubSub, want string) {
	t.Helper()
	for {
		m, err := ps.ReceiveTimeout(t.Context(), wait)
		if err != nil {
			t.Fatalf("waiting for %q: %v", want, err)
		}
		msg, ok := m.(*redis.Message)
		if ok && msg.Channel == "__sentinel__:hello" {
			continue
		}
		if !ok || msg.Channel+" "+msg.Payload != want {
			t.Fatalf("%v, want %q", m, want)
		}
		return
	}
}

func publish(t *testing.T, c redis.Cmdable, channel, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := c.Publish(ctx, channel, payload).Err(); err != nil {
		t.Fatal(err)
	}
}

func mentions(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q, want %q in it", err, word)
		}
	}
}

func TestHomeIsTheOnlyServer(t *testing.T) {
	redisServer := embedded.TestRedisProcess(t)
	h := openHome(t, redisServer.URL()+"?pool_size=3")
	s := find(t, h)
	if s.Addr != redisServer.Addr() || len(s.ID) != 40 || h.Cluster() || s.Options().MaxRetries != 0 {
		t.Errorf("%q %q, cluster %v, %d retries", s.Addr, s.ID, h.Cluster(), s.Options().MaxRetries)
	}
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	publish(t, s, "sluice:mark", "1")
	receive(t, ps, "sluice:mark 1")
	if err := redisServer.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := h.Check(t.Context(), s); err != nil {
		t.Errorf("it is the right one, as there is no other: %v", err)
	}
	if again := find(t, h); again.ID == s.ID {
		t.Error("the same ID after a restart")
	}
	if shards, err := h.Shards(t.Context(), []string{"a"}); shards != nil || err != nil {
		t.Errorf("%v, %v", shards, err)
	}
	if err := redisServer.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err := h.Find(t.Context())
	mentions(t, err, "redis "+redisServer.Addr(), "ping", "refused")
}

func TestHomeRefusesBadURLs(t *testing.T) {
	_, err := OpenHome("redis://:s3cret@h?nonsense=1", Options{})
	mentions(t, err, "REDIS_URL=", "nonsense")
	_, err = OpenHome("redis+cluster://h", Options{})
	mentions(t, err, "Channel")
}

func TestHomeIsNoSentinel(t *testing.T) {
	f := newFake(t, "x").say("info", bulk("redis_mode:sentinel\r\nrun_id:x\r\n"))
	_, err := openHome(t, "redis://"+f.addr).Find(t.Context())
	mentions(t, err, "sentinel", "master_name")
}

// A user with the least rights, see the package's comment.
func TestHomeWithFewRights(t *testing.T) {
	redisServer := embedded.TestRedisProcess(t,
		"--user", "bridge", "on", ">s3cret", "resetchannels", "&game:*", "&sluice:mark", "+ping", "+subscribe", "+psubscribe", "+publish",
		"--user", "none", "on", ">s3cret", "resetchannels")
	h := openHome(t, "redis://bridge:s3cret@"+redisServer.Addr())
	s := find(t, h)
	if s.ID != "" {
		t.Errorf("ID %q although INFO is not allowed", s.ID)
	}
	ps := subscribed(t, s, 2, func(ps *redis.PubSub) error {
		return errors.Join(ps.PSubscribe(t.Context(), "game:*"), ps.Subscribe(t.Context(), "sluice:mark"))
	})
	publish(t, s, "sluice:mark", "1")
	receive(t, ps, "sluice:mark 1")
	mentions(t, s.Publish(t.Context(), "other", "1").Err(), "NOPERM")
	for _, pattern := range []string{"*", "game:1:*"} { // a pattern must be in the ACL as it is
		if err := ps.PSubscribe(t.Context(), pattern); err != nil {
			t.Fatal(err)
		}
		_, err := ps.ReceiveTimeout(t.Context(), wait)
		mentions(t, err, "NOPERM")
	}

	_, err := openHome(t, "redis://none:s3cret@"+redisServer.Addr()).Find(t.Context())
	mentions(t, err, "NOPERM", "ping")
	_, err = openHome(t, "redis://bridge:wr0ng@"+redisServer.Addr()).Find(t.Context())
	mentions(t, err, "WRONGPASS")
	if strings.Contains(err.Error(), "wr0ng") {
		t.Error(err)
	}
}

func TestConnectionsHaveANameIfAllowed(t *testing.T) {
	redisServer := embedded.TestRedisProcess(t)
	s := find(t, openHome(t, redisServer.URL()))
	subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.Subscribe(t.Context(), "a") })
	list, err := s.ClientList(t.Context()).Result()
	if err != nil || strings.Count(list, "name=sluice-test ") != 2 {
		t.Errorf("%v, want two connections named sluice-test in\n%s", err, list)
	}
}

// No question may wait for long, whoever does not answer it.
func TestHomeWaitsForNobody(t *testing.T) {
	f := newFake(t, "x")
	f.silent.Store(true)
	for _, url := range []string{"redis://" + f.addr, "redis://" + f.addr + "?master_name=m", "redis+cluster://" + f.addr, "rediss://" + f.addr} {
		h := openHome(t, url)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		start := time.Now()
		if _, err := h.Find(ctx); err == nil {
			t.Errorf("%s: found", url)
		}
		cancel()
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: took %v", url, took)
		}
	}
}
