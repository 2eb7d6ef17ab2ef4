package main

import (
	"fmt"
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

// leads waits until the bridge does.
func (m *member) leads() {
	m.t.Helper()
	eventually(m.t, "the other bridge leads", func() bool { return m.state() == leads })
}

// after does something, and waits until a metric of the bridge's is more by that.
func (m *member) after(metric string, more float64, do func()) {
	m.t.Helper()
	before := m.metric(metric)
	do()
	eventually(m.t, fmt.Sprint(metric, " is more by ", more), func() bool { return m.metric(metric) >= before+more })
}

var faults = []fault{
	{name: "kill", strike: func(p *pair, leader *member, _ int) {
		leader.kill()
		p.awaitLeader()
		leader.start(p.t)
	}},
	{name: "pause", strike: func(p *pair, leader *member, _ int) { leader.freeze() }},
	// What an ex-leader has under way comes late into a quiet stream.
	{name: "pause, quiet", rate: 200, strike: func(p *pair, leader *member, _ int) { leader.freeze() }},
	{name: "Redis cut", stays: true, strike: func(p *pair, leader *member, _ int) {
		leader.after("sluice_bridge_redis_subscriptions_total", 1, leader.redis.Cut)
	}},
	{name: "Redis away", strike: func(p *pair, leader *member, _ int) {
		leader.redis.Shut()
		p.other(leader).leads()
		leader.redis.Reopen()
	}},
	{name: "Redis silent", strike: func(p *pair, leader *member, round int) {
		began := time.Now()
		leader.redis.Swallow.Store(true)
		leader.redis.Mute.Store(round%2 == 1)
		eventually(p.t, "the leader notices", func() bool { return leader.state() != leads })
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
		const some = 500
		// It goes on, from where it was; or as if nothing were, if on a slow machine more
		// than it may have on its way was stored before messages were lost.
		leader.after("sluice_bridge_stored_total", 4*some, func() {
			leader.after("sluice_bridge_received_total", some, func() { // lost acknowledgements
				leader.eachNATS(func(hop *embedded.Proxy) { hop.Swallow.Store(true) })
			})
			leader.after("sluice_bridge_received_total", some, func() { // lost messages
				leader.eachNATS(func(hop *embedded.Proxy) { hop.Mute.Store(true) })
			})
			leader.eachNATS((*embedded.Proxy).Shut)
			leader.eachNATS(func(hop *embedded.Proxy) { hop.Swallow.Store(false); hop.Mute.Store(false); hop.Reopen() })
		})
	}},
	{name: "NATS away", strike: func(p *pair, leader *member, _ int) {
		leader.eachNATS((*embedded.Proxy).Shut)
		p.other(leader).leads()
		leader.eachNATS((*embedded.Proxy).Reopen)
	}},
	// What the leader has sent arrives while the next one writes the same.
	{name: "NATS late", strike: func(p *pair, leader *member, round int) {
		leader.eachNATS(func(hop *embedded.Proxy) { hop.Hold.Store(true) })
		next := p.other(leader)
		next.leads()
		if round%3 == 2 { // and long after it
			next.after("sluice_bridge_stored_total", 5000, func() {})
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
