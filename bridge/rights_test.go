package bridge

import (
	"context"
	"log/slog"
	"sort"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

const natsRights = "../deploy/nats/nats.conf"

// guarded is a bridge at a server that allows what the file allows.
func guarded(t *testing.T, g *embedded.GuardedNATS, redisAddr string, log *embedded.Lines) *Bridge {
	t.Helper()
	c := worker.Default[Config]()
	c.Admin.Addr = "127.0.0.1:0"
	c.Redis.URL, c.NATS.URL = "redis://"+redisAddr, g.As("bridge")
	c.Bridge.MaxBytes = 64 << 20
	c.Routes = routes(t, "live:* history=off")
	b, err := New(c, log.Logger(slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	embedded.TestRun(t, b.Run)
	return b
}

// Two bridges make the stream, write to it and past it, and one takes over when the
// other has lost Redis, with just the rights that are documented; of each that is
// missing the log tells.
func TestNATSRights(t *testing.T) {
	t.Parallel()
	server := embedded.TestRedis(t)
	pub, err := redisconn.Open(server.URL(), redisconn.Options{Worker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pub.Close() })
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		log := &embedded.Lines{}
		g := embedded.TestGuardedNATS(t, natsRights, nil)
		paces(t, g, server.Addr(), pub, log, false, func(taken bool) bool { return taken })
		if refused := g.Refused(); len(refused) > 0 {
			t.Errorf("refused: %q", refused)
		}
		if text := log.String(); strings.Contains(text, "forbids") {
			t.Error(text)
		}
	})
	t.Run("all, and a stream that is to be changed", func(t *testing.T) {
		t.Parallel()
		g := embedded.TestGuardedNATS(t, natsRights, nil)
		paces(t, g, server.Addr(), pub, &embedded.Lines{}, true, func(taken bool) bool { return taken })
		if refused := g.Refused(); len(refused) > 0 {
			t.Errorf("refused: %q", refused)
		}
	})
	rights := embedded.Rights(t, natsRights, "bridge")
	sort.Slice(rights, func(i, k int) bool { return rights[i].Subject < rights[k].Subject })
	for _, right := range rights {
		t.Run("without "+right.String(), func(t *testing.T) {
			t.Parallel()
			log := &embedded.Lines{}
			g := embedded.TestGuardedNATS(t, natsRights, &right)
			subject := strings.TrimSuffix(right.Subject, ">")
			paces(t, g, server.Addr(), pub, log, strings.Contains(subject, "UPDATE"), func(bool) bool {
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "NATS forbids") && strings.Contains(line, subject) {
						return true
					}
				}
				return false
			})
		})
	}
}

// paces has two bridges do what bridges do, until done.
func paces(t *testing.T, g *embedded.GuardedNATS, redisAddr string, pub redis.UniversalClient, log *embedded.Lines, exists bool, done func(taken bool) bool) {
	t.Helper()
	if exists {
		nc, err := nats.Connect(g.As("test"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SLUICE", Subjects: []string{"sluice.log.>"}, Storage: jetstream.MemoryStorage}); err != nil {
			t.Fatal(err)
		}
	}
	link := embedded.TestProxy(t, redisAddr)
	first := guarded(t, g, link.Addr(), log)
	var second *Bridge
	cut := false
	until(t, "done", func() bool {
		for _, name := range []string{"a", "live:a", wire.MarkChannel + "s"} {
			if err := pub.Publish(t.Context(), name, "x").Err(); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case done(second != nil && second.leader.leads.Load() && first.stats.live.Load() > 0):
			return true
		case second == nil && first.leader.leads.Load() && first.stats.live.Load() > 0:
			second = guarded(t, g, redisAddr, log)
		case second != nil && !cut && second.leader.state.Load().hot:
			cut = true
			link.Shut()
		}
		return false
	})
}
