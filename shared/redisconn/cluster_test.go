package redisconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
)

// The rights of the user bridge are the least that work; the rest is for
// publishing.
var clusterUser = []string{"--user", "bridge", "on", ">s3cret", "resetchannels", "&*",
	"+ping", "+cluster|slots", "+subscribe", "+psubscribe", "+ssubscribe", "+publish", "+spublish"}

func withUser(url string) string {
	return "redis+cluster://bridge:s3cret@" + url[len("redis+cluster://"):]
}

func openCluster(t *testing.T, url string) *redis.ClusterClient {
	t.Helper()
	c, err := Open(url, Options{Worker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*redis.ClusterClient)
}

func TestHomeInACluster(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 3, clusterUser...)
	url := withUser(c.URL())
	h, pub := openHome(t, url), openCluster(t, url)
	if err := Wait(t.Context(), pub, embedded.TestLog(t)); err != nil {
		t.Fatal(err)
	}
	s := find(t, h)
	if want := c.Owner(t, "sluice:mark"); s.Addr != want.Addr() || !h.Cluster() {
		t.Fatalf("%s, want %s", s.Addr, want.Addr())
	}
	if err := h.Check(t.Context(), s); err != nil {
		t.Error(err)
	}
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	publish(t, s, "sluice:mark", "1")
	receive(t, ps, "sluice:mark 1")
	for _, p := range c.Servers {
		publish(t, c.Client(p), "a", p.Addr())
		receive(t, ps, "a "+p.Addr())
	}
	// What one client publishes in one channel keeps its order.
	var last *redis.IntCmd
	for i := range 300 {
		if i%3 == 0 {
			publish(t, pub, "b", strconv.Itoa(i))
			continue
		}
		pipe := pub.Pipeline()
		last = pipe.Publish(t.Context(), "b", i)
		if _, err := pipe.Exec(t.Context()); err != nil || last.Err() != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		receive(t, ps, "b "+strconv.Itoa(i))
	}

	for _, p := range c.Servers {
		log, err := c.Client(p).ACLLog(t.Context(), 100).Result()
		for _, refused := range log {
			if refused.Object == "command" {
				t.Error("a publisher asks for the right to COMMAND")
			}
		}
		if err != nil || len(log) == 0 {
			t.Errorf("%d entries, %v; want CLIENT SETNAME at least", len(log), err)
		}
	}

	home := c.Owner(t, "sluice:mark")
	other := c.Servers[0]
	if other == home {
		other = c.Servers[1]
	}
	c.Move(t, "sluice:mark", other)
	mentions(t, h.Check(t.Context(), s), "redis "+home.Addr(), other.Addr())
	moved := find(t, h)
	if moved.Addr != other.Addr() || h.Check(t.Context(), moved) != nil {
		t.Errorf("%s, want %s: %v", moved.Addr, other.Addr(), h.Check(t.Context(), moved))
	}
}

func TestShards(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 3, clusterUser...)
	url := withUser(c.URL())
	h, pub := openHome(t, url), openCluster(t, url)
	names := []string{"{x}1", "{x}2"} // one slot
	for i := range 30 {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	shards, err := h.Shards(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	if len(shards) != 3 {
		t.Fatalf("%d shards for three masters", len(shards))
	}
	var server *Server
	var ps *redis.PubSub // where n0 is
	seen := map[string]bool{}
	for _, shard := range shards {
		t.Cleanup(func() { _ = shard.Server.Close() })
		n := 0
		for _, slot := range shard.Slots {
			n += len(slot)
			for _, name := range slot {
				seen[name] = true
			}
		}
		here := subscribed(t, shard.Server, n, func(ps *redis.PubSub) (err error) {
			for _, slot := range shard.Slots {
				err = errors.Join(err, ps.SSubscribe(t.Context(), slot...))
			}
			return err
		})
		for _, slot := range shard.Slots {
			for _, name := range slot {
				if err := pub.SPublish(t.Context(), name, "1").Err(); err != nil {
					t.Fatal(err)
				}
				receive(t, here, name+" 1")
				if name == "n0" {
					server, ps = shard.Server, here
				}
			}
		}
	}
	if len(seen) != len(names) {
		t.Errorf("%d of %d names", len(seen), len(names))
	}
	if err := h.Check(t.Context(), server); err != nil {
		t.Error(err)
	}
	from := c.Owner(t, "n0")
	to := c.Servers[0]
	if to == from {
		to = c.Servers[1]
	}
	c.Move(t, "n0", to)
	mentions(t, h.Check(t.Context(), server), to.Addr())
	m, err := ps.ReceiveTimeout(t.Context(), wait)
	if sub, ok := m.(*redis.Subscription); err != nil || !ok || sub.Kind != "sunsubscribe" || sub.Channel != "n0" {
		t.Errorf("%v, %v: want the end of the subscription", m, err)
	}
	again, err := h.Shards(t.Context(), []string{"n0"})
	if err != nil || len(again) != 1 || again[0].Server.Addr != to.Addr() {
		t.Fatalf("%v, %v", again, err)
	}
	_ = again[0].Server.Close()
}

func TestHomeFollowsTheReplica(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 3)
	old := c.Owner(t, "sluice:mark")
	replica := c.Replica(t, old)
	h, pub := openHome(t, c.URL()), openCluster(t, c.URL())
	publish(t, pub, "sluice:mark", "0")
	s := find(t, h)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := h.Check(t.Context(), s); err != nil {
		t.Errorf("it does not answer, which says nothing: %v", err)
	}
	mentions(t, certain(t, h, s), "the Cluster has given slots of redis "+old.Addr()+" to "+replica.Addr())
	s = findAgain(t, h)
	if s.Addr != replica.Addr() {
		t.Fatalf("%s, want %s", s.Addr, replica.Addr())
	}
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	embedded.Eventually(t, "a publisher follows too", 5*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return pub.Publish(ctx, "sluice:mark", "1").Err() == nil
	})
	receive(t, ps, "sluice:mark 1")
	if err := old.Restart(); err != nil {
		t.Fatal(err)
	}
	mentions(t, certain(t, h, &Server{Client: s.Client, Addr: s.Addr, node: "former", slots: s.slots}), replica.Addr())
	if err := h.Check(t.Context(), s); err != nil {
		t.Error(err)
	}
}

func TestClusterErrorsAreReadable(t *testing.T) {
	one := embedded.TestRedisProcess(t, "--user", "few", "on", ">s3cret", "+ping")
	_, err := openHome(t, "redis+cluster://"+one.Addr()).Find(t.Context())
	mentions(t, err, one.Addr(), "cluster slots", "not part of a Cluster", "redis://")
	_, err = openHome(t, "redis+cluster://few:s3cret@"+one.Addr()).Find(t.Context())
	mentions(t, err, "cluster slots", "NOPERM", "cluster|slots")
	_, err = openHome(t, "redis+cluster://"+one.Addr()).Shards(t.Context(), []string{"a"})
	mentions(t, err, "not part of a Cluster")
	_, err = openHome(t, "redis+cluster://"+newFake(t, "").say("cluster", "*0").addr).Find(t.Context())
	mentions(t, err, "nobody owns slot")
}

// One server of a Cluster that sees it otherwise moves nobody.
func TestOneServerMovesNobody(t *testing.T) {
	t.Parallel()
	a, b, odd := newFake(t, "a"), newFake(t, "b"), newFake(t, "odd")
	h := openHome(t, "redis+cluster://"+odd.addr+"?addr="+a.addr+"&addr="+b.addr)
	odd.has(b.addr)
	a.has(a.addr)
	b.has(a.addr)
	s := find(t, h)
	if s.Addr != a.addr {
		t.Fatalf("%s, want %s", s.Addr, a.addr)
	}
	odd.has(odd.addr) // a former owner that is cut off says this
	odd.before(t, a, b)
	if s := find(t, h); s.Addr != a.addr {
		t.Fatalf("%s, which was the first to answer, want %s", s.Addr, a.addr)
	}
	odd.has(b.addr)
	h.known = []string{a.addr, b.addr, odd.addr}
	stays := func(when string) {
		t.Helper()
		if err := h.Check(t.Context(), s); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		h.known = []string{a.addr, b.addr, odd.addr}
	}
	stays("one sees another")
	a.silent.Store(true)
	b.silent.Store(true)
	stays("one sees another, the others are silent")
	b.silent.Store(false)
	b.has(b.addr)
	mentions(t, h.Check(t.Context(), s), "the Cluster has given slots of redis "+a.addr+" to "+b.addr)
	a.silent.Store(false)
	odd.silent.Store(true)
	b.silent.Store(true)
	a.say("cluster", "*0")
	stays("its slot has no owner")
	a.has(b.addr)
	mentions(t, h.Check(t.Context(), s), "does not own its slots any more")
}

func TestFindAsksTheOwner(t *testing.T) {
	a, b := newFake(t, "a"), newFake(t, "b")
	a.has(b.addr) // behind the times
	b.has(b.addr)
	if s := find(t, openHome(t, "redis+cluster://"+a.addr)); s.Addr != b.addr {
		t.Errorf("%s, want %s", s.Addr, b.addr)
	}
	b.has(a.addr)
	_, err := openHome(t, "redis+cluster://"+a.addr).Find(t.Context())
	mentions(t, err, "do not agree")
}

func TestReachable(t *testing.T) {
	f := func(addr, asked, want string) {
		t.Helper()
		if got := reachable(addr, asked); got != want {
			t.Errorf("%s told by %s: %s, want %s", addr, asked, got, want)
		}
	}
	f("10.0.0.2:7", "10.0.0.1:6", "10.0.0.2:7")
	f(":7", "10.0.0.1:6", "10.0.0.1:7")
	f("?:7", "10.0.0.1:6", "10.0.0.1:7")
	f("10.0.0.2:0", "10.0.0.1:6", "10.0.0.2:6")
	f("127.0.0.1:7", "redis.example:6", "redis.example:7")
	f("127.0.0.1:7", "localhost:6", "127.0.0.1:7")
	f("[::1]:7", "127.0.0.1:6", "[::1]:7")
}

func TestSlotOf(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 1)
	for _, name := range []string{"", "a", "foo", "123456789", "{a}b", "x{a}b", "{}a", "x{}{a}", "{a", "a}", "{{a}}", "}{a}", "é\xff\x00", "sluice:mark"} {
		want, err := c.Client(c.Servers[0]).ClusterKeySlot(t.Context(), name).Result()
		if got := slotOf(name); err != nil || got != int(want) {
			t.Errorf("%q: slot %d, Redis says %d, %v", name, got, want, err)
		}
	}
}
