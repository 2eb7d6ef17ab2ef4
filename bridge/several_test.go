package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// goesOn publishes until a message arrives, and returns how often clients have been
// told of a gap by then.
func (r *rig) goesOn(publish func(ctx context.Context, name, payload string) error, text string) (told int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*wait)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_ = publish(one, "c:0", text) // fails while there is no master
		cancel()
		select {
		case m := <-r.live:
			if strings.HasSuffix(m.Subject, ".c.0") && string(m.Data) == text {
				return len(r.marks())
			}
		case <-time.After(50 * time.Millisecond):
		}
		if ctx.Err() != nil {
			r.t.Fatalf("%q does not arrive", text)
		}
	}
}

func (r *rig) byURL(ctx context.Context, name, payload string) error {
	return r.pub.Publish(ctx, name, payload).Err()
}

// Three sentinels: the bridges follow the new master when the old one dies, and leave
// one that was demoted and lives on.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := embedded.TestRedisSentinel(t)
	r := newRigAt(t, s.URL(), embedded.NATSOptions{})
	first, _ := r.lead(nil)
	second, _ := r.start(nil)
	hot(t, second)
	told := r.goesOn(r.byURL, "begun")
	follow := func(master *embedded.Process) {
		t.Helper()
		id := strings.TrimSpace(infoOf(t, s.Client(master), "run_id"))
		for _, b := range []*Bridge{first, second} {
			until(t, "both hang on the new master", func() bool { return b.source.linked() && b.source.server() == id })
		}
	}

	demoted := s.Master(t)
	master := s.Failover(t)
	follow(master)
	before := told
	if told = r.goesOn(r.byURL, "after a demotion"); told == before {
		t.Error("nobody was told that messages may be missing")
	}
	if demoted.Pid() == 0 {
		t.Error("the old master is dead: the test has not tested it")
	}

	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	follow(s.NewMaster(t, master))
	if r.goesOn(r.byURL, "after a death") == told {
		t.Error("nobody was told that messages may be missing")
	}
	until(t, "one of them stands by, hot", func() bool {
		return first.leader.state.Load().hot != second.leader.state.Load().hot
	})
}

func infoOf(t *testing.T, c *redis.Client, field string) string {
	t.Helper()
	text, err := c.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, field+":")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// A Cluster of three masters: what is published at any of them arrives, with PUBLISH
// and, for channels that are named, with SPUBLISH. A server is restarted.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 3)
	r := newRigAt(t, c.URL(), embedded.NATSOptions{})
	named := func(cfg *Config) {
		if err := cfg.Bridge.Patterns.Decode("c:*,n:1,n:2,n:3,n:4"); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := r.lead(named)
	for i, server := range c.Servers {
		text := fmt.Sprint("at server ", i)
		if err := c.Client(server).Publish(t.Context(), "c:0", text).Err(); err != nil {
			t.Fatal(err)
		}
		r.want("c:0", text)
	}
	owners := map[*embedded.Process]bool{}
	for i := range 4 {
		name := fmt.Sprint("n:", i+1)
		owners[c.Owner(t, name)] = true
		if err := r.pub.SPublish(t.Context(), name, "sharded").Err(); err != nil {
			t.Fatal(err)
		}
		r.want(name, "sharded")
		r.publish(name, "classic")
		r.want(name, "classic")
	}
	if len(owners) < 2 {
		t.Error("all channels are of one server: the test has not tested shards")
	}
	standby, _ := r.start(named)
	until(t, "the standby knows why it is cold", func() bool { return standby.leader.state.Load().why == errShards })

	// A slot moves while the bridge listens: it goes after it.
	from := c.Owner(t, "n:1")
	for _, to := range c.Servers {
		if to != from {
			links := b.source.links.Load()
			c.Move(t, "n:1", to)
			until(t, "a new link", func() bool { return b.source.links.Load() > links && b.source.linked() })
			break
		}
	}
	spublish := func(ctx context.Context, _, text string) error {
		if err := r.pub.SPublish(ctx, "n:1", text).Err(); err != nil {
			return err
		}
		return r.pub.Publish(ctx, "c:0", text).Err()
	}
	told := r.goesOn(spublish, "moved")
	if told == 0 {
		t.Error("nobody was told that messages may be missing")
	}

	home := c.Owner(t, wire.MarkChannel)
	if err := home.Restart(); err != nil {
		t.Fatal(err)
	}
	if r.goesOn(r.byURL, "restarted") == told {
		t.Error("nobody was told that messages may be missing")
	}
}

// Without named channels there are no shards, and all bridges hang on one server of
// the Cluster: they take over exactly.
func TestTakeoverInACluster(t *testing.T) {
	t.Parallel()
	c := embedded.TestRedisCluster(t, 3)
	r := newRigAt(t, c.URL(), embedded.NATSOptions{})
	_, stop := r.lead(nil)
	second, _ := r.start(nil)
	hot(t, second)
	r.publish("c:0", "1")
	r.want("c:0", "1")
	stop()
	until(t, "the second leads", second.leader.leads.Load)
	r.publish("c:0", "2")
	r.want("c:0", "2")
	if n := second.stats.takeovers[planned].Load(); n != 1 || len(r.marks()) > 0 {
		t.Errorf("%d planned takeovers, gap marks %v", n, r.marks())
	}
}
