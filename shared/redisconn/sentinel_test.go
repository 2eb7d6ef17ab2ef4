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

// certain waits until Check says that s must be left, and returns why.
func certain(t *testing.T, h *Home, s *Server) (err error) {
	t.Helper()
	embedded.Eventually(t, "Check is certain", 20*time.Second, func() bool {
		err = h.Check(t.Context(), s)
		return err != nil
	})
	return err
}

// findAgain tries until there is a server to be found, as a bridge does.
func findAgain(t *testing.T, h *Home) (s *Server) {
	t.Helper()
	embedded.Eventually(t, "there is a server again", 20*time.Second, func() (found bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var err error
		s, err = h.Find(ctx)
		return err == nil
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestHomeFollowsTheMaster(t *testing.T) {
	t.Parallel()
	r := embedded.TestRedisSentinel(t)
	h := openHome(t, r.URL())
	pub := open(t, r.URL())
	first := find(t, h)
	if first.Addr != r.Servers[0].Addr() || first.ID == "" {
		t.Fatalf("%q %q, want the master %s", first.Addr, first.ID, r.Servers[0].Addr())
	}
	if err := h.Check(t.Context(), first); err != nil {
		t.Error(err)
	}
	hears := func(s *Server) {
		t.Helper()
		ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
		publish(t, s, "sluice:mark", "1")
		receive(t, ps, "sluice:mark 1")
		publish(t, pub, "a", "2")
		receive(t, ps, "a 2")
	}
	hears(first)

	// Demoted, but alive, so that a subscription goes on as if nothing had happened.
	r.Failover(t)
	mentions(t, certain(t, h, first), first.Addr)
	second := findAgain(t, h)
	if second.Addr != r.Servers[1].Addr() {
		t.Fatalf("%s, want %s", second.Addr, r.Servers[1].Addr())
	}
	if err := h.Check(t.Context(), second); err != nil {
		t.Error(err)
	}
	hears(second)

	// Dead: only the sentinels can tell.
	if err := r.Servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	r.NewMaster(t, r.Servers[1])
	mentions(t, certain(t, h, second), "the sentinels name "+first.Addr)
	third := findAgain(t, h)
	if third.Addr != first.Addr {
		t.Fatalf("%s, want %s", third.Addr, first.Addr)
	}
	hears(third)

	// It comes back, at first in the belief that it is still the master.
	if err := r.Servers[1].Restart(); err != nil {
		t.Fatal(err)
	}
	if h.Check(t.Context(), second) == nil {
		t.Error("the old master, back again, is not to be left")
	}
	embedded.Eventually(t, "the old master is a replica", 20*time.Second, func() bool {
		role, _ := second.role(t.Context())
		return role == "slave"
	})
	mentions(t, h.Check(t.Context(), second), second.Addr)
	if err := h.Check(t.Context(), third); err != nil {
		t.Error(err)
	}
}

// threeSentinels are fakes that name the address.
func threeSentinels(t *testing.T, addr string) (s [3]*fake, url string) {
	t.Helper()
	for i := range s {
		s[i] = newFake(t, "").names(addr)
	}
	return s, "redis://" + s[0].addr + "?master_name=m&addr=" + s[1].addr + "&addr=" + s[2].addr
}

func TestOneSentinelMovesNobody(t *testing.T) {
	a, b := newFake(t, "a"), newFake(t, "b")
	sentinels, url := threeSentinels(t, a.addr)
	h := openHome(t, url)
	sentinels[0].names(b.addr)
	s := find(t, h)
	if s.Addr != a.addr {
		t.Fatalf("found %s, which only one names", s.Addr)
	}
	stays := func(when string) {
		t.Helper()
		start := time.Now()
		if err := h.Check(t.Context(), s); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if took := time.Since(start); took > checkTimeout+time.Second {
			t.Errorf("%s: took %v", when, took)
		}
	}
	stays("one names another")
	sentinels[0].say("sentinel", "*-1")
	sentinels[1].say("sentinel", "-ERR odd")
	stays("one does not know it, one answers nonsense")
	sentinels[0].names(b.addr)
	sentinels[1].silent.Store(true)
	sentinels[2].silent.Store(true)
	stays("one names another, two are silent")
	sentinels[1].silent.Store(false)
	sentinels[1].names(b.addr)
	mentions(t, h.Check(t.Context(), s), "the sentinels name "+b.addr)
	b.say("role", array("slave"))
	stays("two name a replica")
	b.say("role", array("master")).say("info", bulk("run_id:a\r\n"))
	stays("two name the same server by another name")
	b.say("info", "-NOPERM x").say("role", "-NOPERM x")
	mentions(t, h.Check(t.Context(), s), "the sentinels name "+b.addr)
	// s itself is believed even alone.
	for _, f := range sentinels {
		f.silent.Store(true)
	}
	a.say("role", array("slave"))
	mentions(t, h.Check(t.Context(), s), "replica")
}

// After a promotion some sentinels name the dead master a little longer.
func TestNewsNeedsTime(t *testing.T) {
	a := newFake(t, "a")
	sentinels, url := threeSentinels(t, a.addr)
	h := openHome(t, url)
	s := find(t, h)
	for _, f := range sentinels {
		f.names("127.0.0.1:1")
	}
	if err := h.Check(t.Context(), s); err != nil {
		t.Errorf("left at once: %v", err)
	}
	if s.doubt.IsZero() {
		t.Fatal("no doubt")
	}
	s.doubt = s.doubt.Add(-newsTimeout)
	mentions(t, h.Check(t.Context(), s), "the sentinels name 127.0.0.1:1")
	for _, f := range sentinels {
		f.names(a.addr)
	}
	if err := h.Check(t.Context(), s); err != nil || !s.doubt.IsZero() {
		t.Errorf("%v, doubt since %v", err, s.doubt)
	}
}

func TestFindTellsWhatIsWrong(t *testing.T) {
	a := newFake(t, "a")
	sentinels, url := threeSentinels(t, a.addr)
	h := openHome(t, url)
	a.say("role", array("slave"))
	_, err := h.Find(t.Context())
	mentions(t, err, a.addr, "but it is a replica")
	a.say("role", "-NOPERM x")
	find(t, h)

	sentinels[0].say("sentinel", "*-1")
	sentinels[1].say("sentinel", "-ERR unknown command 'sentinel'")
	sentinels[2].say("sentinel", "-NOPERM this user has no permissions to run the 'sentinel' command")
	_, err = h.Find(t.Context())
	mentions(t, err, `no master named "m"`, "it is no sentinel", "NOPERM", sentinels[2].addr)
}

func TestSentinelsHaveTheirOwnLogin(t *testing.T) {
	a := newFake(t, "a")
	sentinels, url := threeSentinels(t, a.addr)
	url = strings.Replace(url, "redis://", "redis://su:sp@", 1) + "&username=u&password=p"
	find(t, openHome(t, url))
	heard := func(f *fake, login string) bool { return f.was("hello 2 auth " + login) }
	if !heard(a, "u p") || heard(a, "su sp") {
		t.Error("the server did not hear its own login")
	}
	own := 0
	for _, s := range sentinels {
		if heard(s, "su sp") {
			own++
		}
		if heard(s, "u p") {
			t.Error("a sentinel heard the server's login")
		}
	}
	if own < 2 { // two that agree are enough: nobody waits for the third
		t.Errorf("%d sentinels heard their own login", own)
	}
}

func TestCloseEndsAllConnections(t *testing.T) {
	a := newFake(t, "a")
	sentinels, url := threeSentinels(t, a.addr)
	h := openHome(t, url)
	s := find(t, h)
	if err := h.Check(t.Context(), s); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range append(sentinels[:], a) {
		eventually(t, "no connection is left", func() bool { return f.conns.Load() == 0 })
	}
	if _, err := h.Find(t.Context()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := h.Check(t.Context(), s); err != nil {
		t.Errorf("who is closed knows nothing: %v", err)
	}
}
