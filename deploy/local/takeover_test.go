package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/redisconn"
)

// takeovers is how often a leader is killed: SLUICE_TAKEOVERS times, 20 in `task
// soak`. Where that is not set it is 3 in CI and 0 elsewhere.
func takeovers(t testing.TB) int {
	t.Helper()
	text := os.Getenv("SLUICE_TAKEOVERS")
	switch {
	case text != "":
	case os.Getenv("CI") == "true":
		return 3
	default:
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SLUICE_TAKEOVERS=%q: want a number of rounds", text)
	}
	return n
}

// needTakeovers skips what takes too long for a test in between. In CI it never does.
func needTakeovers(t testing.TB) {
	t.Helper()
	if takeovers(t) == 0 {
		t.Skip("takes up to a minute, and all of its kind four: SLUICE_TAKEOVERS=3 runs them, and so does CI=true")
	}
}

// Whatever happens to the leading bridge, subscribers get every message once and
// in order, and are told of no gap. SLUICE_TAKEOVERS says how often it is killed;
// a quarter of that is done of each other fault. Without it, it is killed once,
// under little load.
func TestTakeovers(t *testing.T) {
	kills, rate := takeovers(t), 5000
	if kills == 0 {
		kills, rate = 1, 1000
	}
	var summary []string
	for _, f := range faults {
		rounds := kills
		if f.name != "kill" {
			rounds = min(max(1, kills/4), takeovers(t))
		}
		if rounds == 0 {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			p := newPair(t, 2)
			load := newPaced(p, true)
			rng := rand.New(rand.NewPCG(load.seed, pacedPublishers))
			ls := listen(p, load, 25, true)
			load.start(rate)
			var nats, clients []time.Duration
			for round := range rounds {
				load.rate.Store(int64(cmp.Or(f.rate, rate)))
				found := p.takeover(ls, f, round, rng)
				nats, clients = append(nats, found.nats), append(clients, found.clients)
			}
			load.finish()
			sent := load.sent()
			ls.caughtUp(sent)
			line := fmt.Sprintf("%-24s %2d times, %7d messages, nothing in NATS for %s, to clients for %s", f.name, rounds, sent.total(), medianAndWorst(nats), medianAndWorst(clients))
			t.Log(line)
			summary = append(summary, line)
		})
	}
	t.Logf("summary\n%s", strings.Join(summary, "\n"))
}

func medianAndWorst(list []time.Duration) string {
	slices.Sort(list)
	return fmt.Sprintf("%.2f s (worst %.2f s)", list[len(list)/2].Seconds(), list[len(list)-1].Seconds())
}

// takeover lets the fault happen once, at a random moment, and returns for how
// long nothing was delivered.
func (p *pair) takeover(ls *listeners, f fault, round int, rng *rand.Rand) pauses {
	p.t.Helper()
	leader, standby := p.await()
	ls.load.more(rng.IntN(int(ls.load.rate.Load())*3/2 + 1))
	pause := ls.watchPause()
	f.strike(p, leader, round)
	now, _ := p.await()
	ls.caughtUp(ls.load.sent())
	longest := pause()
	if now != standby && !f.stays {
		p.t.Errorf("the bridge leads that led before")
	}
	p.t.Logf("round %d: nothing in NATS for %.2fs, to clients for %.2fs", round, longest.nats.Seconds(), longest.clients.Seconds())
	return longest
}

// Clients that come and go, on any node, lose nothing either while leaders are
// killed. Who returns with an id that the killed one vouched for last may be told
// of a gap, and get some of it again.
func TestRoamingWithTakeovers(t *testing.T) {
	needTakeovers(t)
	kills := (takeovers(t) + 1) / 2
	p := newPair(t, 2, "ROUTES=roam:> history=20000/10m")
	client, err := redisconn.Open(p.redis.URL(), redisconn.Options{Worker: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	var addrs []string
	for _, url := range p.nodes {
		addrs = append(addrs, strings.TrimPrefix(url, "http://"))
	}
	rs := newRoamers(t, addrs[0], "roam", 40, rng, nil)
	rs.honest = true
	for _, r := range rs.all {
		r.addrs = addrs
	}
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	others.Go(func() { rs.roam(ctx) })
	seed := rng.Uint64()
	others.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		for ctx.Err() == nil {
			pipe := client.Pipeline()
			rs.publish(pipe, rng)
			if _, err := pipe.Exec(context.Background()); err != nil {
				t.Error(err)
				return
			}
			pause(ctx, 50*time.Millisecond)
		}
	})
	for range kills {
		leader, _ := p.await()
		visits := rs.visits() + rng.IntN(50)
		until(t, "clients come and go", func() bool { return rs.visits() > visits })
		leader.kill()
		p.awaitLeader()
		leader.start(t)
	}
	p.await()
	stop()
	others.Wait()
	rs.finish()
	t.Logf("%d leaders killed, %d visits, told of gaps: %v", kills, rs.visits(), rs.gaps())
}
