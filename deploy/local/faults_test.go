package main

import (
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
