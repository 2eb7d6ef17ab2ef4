package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// fault is something that happens to a leading bridge. It is over when strike
// returns.
type fault struct {
	name   string
	rate   int                                      // messages a second while it happens; 0: the test's
	stays  bool                                     // the leader may go on leading
	strike func(p *pair, leader *member, round int) // rounds count from 0
}

// outage is how long a link is away. It is longer than a standby waits.
const outage = 4 * time.Second

var faults = []fault{
	{name: "kill", strike: func(p *pair, leader *member, _ int) {
		leader.kill()
		p.awaitLeader()
		leader.start(p.t)
	}},
	{name: "pause", strike: func(p *pair, leader *member, _ int) { leader.freeze() }},
	// What an ex-leader has under way comes late into a quiet stream.
	{name: "pause, quiet", rate: 200, strike: func(p *pair, leader *member, _ int) { leader.freeze() }},
	{name: "Redis cut", stays: true, strike: func(p *pair, leader *member, _ int) { leader.redis.Cut() }},
	{name: "Redis away", strike: func(p *pair, leader *member, _ int) {
		leader.redis.Shut()
		time.Sleep(outage)
		leader.redis.Reopen()
	}},
	{name: "Redis silent", strike: func(p *pair, leader *member, round int) {
		began := time.Now()
		leader.redis.Swallow.Store(true)
		leader.redis.Mute.Store(round%2 == 1)
		until(p.t, "the leader notices", func() bool {
			time.Sleep(10 * time.Millisecond)
			return leader.state() != leads
		})
		noticed := time.Since(began)
		p.t.Logf("noticed after %.1fs", noticed.Seconds())
		if noticed > 6*time.Second {
			p.t.Error("that is too long")
		}
		leader.redis.Shut() // after a loss there is no going on
		leader.redis.Swallow.Store(false)
		leader.redis.Mute.Store(false)
		leader.redis.Reopen()
	}},
	{name: "NATS cut", stays: true, strike: func(p *pair, leader *member, _ int) {
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Swallow.Store(true) })
		time.Sleep(100 * time.Millisecond) // of lost acknowledgements
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Mute.Store(true) })
		time.Sleep(100 * time.Millisecond) // of lost messages
		leader.eachNATS((*embedded.Proxy).Shut)
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Swallow.Store(false); hop.Mute.Store(false); hop.Reopen() })
	}},
	{name: "NATS away", strike: func(p *pair, leader *member, _ int) {
		leader.eachNATS((*embedded.Proxy).Shut)
		time.Sleep(outage)
		leader.eachNATS((*embedded.Proxy).Reopen)
	}},
	// What the leader has sent arrives while the next one writes the same.
	{name: "NATS late", strike: func(p *pair, leader *member, round int) {
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Hold.Store(true) })
		next := p.other(leader)
		until(p.t, "another bridge leads", func() bool { return next.state() == leads })
		if round%3 == 2 {
			time.Sleep(time.Second)
		}
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Hold.Store(false) })
	}},
	{name: "SIGTERM", strike: func(p *pair, leader *member, _ int) {
		leader.stop()
		leader.start(p.t)
	}},
	{name: "stream's leader killed", stays: true, strike: func(p *pair, _ *member, _ int) {
		server, _ := p.roles()
		p.bounce(server)
	}},
	{name: "stream's follower killed", stays: true, strike: func(p *pair, _ *member, round int) {
		_, followers := p.roles()
		p.bounce(followers[round%len(followers)])
	}},
}

// takeovers is how often a leader is killed: 3 times in CI, 20 in `task soak`; 0
// where SLUICE_TAKEOVERS is not set.
func takeovers(t testing.TB) int {
	t.Helper()
	text := os.Getenv("SLUICE_TAKEOVERS")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SLUICE_TAKEOVERS=%q: want a number of rounds", text)
	}
	return n
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
	time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
	pause := ls.watchPause()
	f.strike(p, leader, round)
	if f.stays {
		time.Sleep(time.Second) // it may not have noticed yet
	}
	now, _ := p.await()
	ls.caughtUp(ls.load.sent())
	longest := pause()
	if now != standby && !f.stays {
		p.t.Errorf("the bridge leads that led before")
	}
	p.t.Logf("round %d: nothing in NATS for %.2fs, to clients for %.2fs", round, longest.nats.Seconds(), longest.clients.Seconds())
	return longest
}
