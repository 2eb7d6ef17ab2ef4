package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// aliveFor is how long after its last pulse a bridge is taken to lead.
	aliveFor = 1500 * time.Millisecond
	// observeFor is for how long a standby must have seen the stream answer, and no
	// pulse come, to believe that it is the leader that is away and not the stream.
	observeFor = time.Second
	// coldWait and unlinkedWait are how much longer a bridge waits that could not
	// take over exactly, or has no link to Redis: another one may be better.
	coldWait     = 500 * time.Millisecond
	unlinkedWait = 3 * time.Second
	// lookAgain is how often a waiting bridge looks at the end of the stream.
	lookAgain = 250 * time.Millisecond
	// yieldAfter is for how long a leader without Redis waits for its link before it
	// gives way to a bridge that is cold.
	yieldAfter = 2 * time.Second
	// coldLimit is after how long a standby that does not see the leader's marks
	// makes its link to Redis anew: it may hang on a server that is no master any
	// more.
	coldLimit = 5 * time.Second
)

// state is what a bridge is at the moment; the zero value does not know.
type state struct {
	leads   bool
	hot     bool
	why     error  // it is a cold standby
	trouble error  // it can neither lead nor stand by
	other   string // who leads instead
}

func (s *state) String() string {
	switch {
	case s.leads:
		return "leader"
	case s.hot:
		return "hot standby"
	case s.why != nil:
		return "cold standby: " + s.why.Error()
	}
	return "cold standby: no leader is known"
}

func (l *leader) setState(s state) { l.state.Store(&s) }

var errNoLink = errors.New("no link to Redis")

// standBy takes from the end of the stream how far the leader is, lets go of what it
// has written, and finds out whether this bridge could go on from there.
func (l *leader) standBy(e end) {
	before := l.state.Load()
	if e.pulse.Bridge != "" && e.pulse.Bridge != before.other && e.pulse.Bridge != l.name {
		l.stats.leaders.Add(1)
	}
	why := l.otherThan(e.pulse)
	if why != nil {
		_ = l.queue.stored("") // the position is one of another order
	} else {
		why = l.queue.stored(e.stamp.Position)
	}
	if !l.link.linked() {
		why = errNoLink
	}
	s := state{hot: why == nil, why: why, other: e.pulse.Bridge}
	switch {
	case e.pulse.Bridge == "":
		s.why = nil
	case before.other != s.other:
		l.cold = time.Now()
		l.log.Info("standing by", "leader", e.pulse.Bridge, "term", e.pulse.Term)
		if s.hot {
			l.log.Info("hot standby: can take over exactly where the leader stops")
		}
	case s.hot && !before.hot:
		l.log.Info("hot standby: can take over exactly where the leader stops")
	case before.hot && !s.hot:
		l.cold = time.Now()
		l.log.Debug("cold standby", "why", why)
	case !s.hot && time.Since(l.cold) > coldLimit:
		l.cold = time.Now()
		l.log.Warn("cold standby: a takeover now would be told to all clients as a gap", "why", why)
		if errors.Is(why, errNotSeen) {
			l.link.renew("the leader's marks do not come")
		}
	}
	l.setState(s)
}

// otherThan returns why a position of the last leader's means nothing here, or nil.
func (l *leader) otherThan(p wire.Pulse) error {
	server := l.link.server()
	switch {
	case p.Patterns != l.plan:
		return errOtherPlan
	case l.link.shards():
		return errShards
	case p.Redis != "" && server != "" && p.Redis != server:
		return fmt.Errorf("%w (%s, here %s)", errOtherRedis, p.Redis, server)
	}
	return nil
}

// mayLead tells whether a bridge that does not lead should try to.
func (l *leader) mayLead(e end) bool {
	p := &e.pulse
	if l.fenced(e) {
		return false
	}
	if p.Bridge == "" && l.known.epoch == "" || p.Bridge == l.name && p.Term == l.tried {
		return true // none has ever led, or it is this one and does not know
	}
	if l.seen != e.pulseSeq {
		l.seen, l.since = e.pulseSeq, time.Now()
	}
	observed := time.Since(l.since)
	after := aliveFor
	if p.Leaving && p.Bridge != l.name {
		after = 0
	} else if observed < observeFor {
		return false
	}
	if s := l.state.Load(); !l.link.linked() {
		after += unlinkedWait
	} else if !s.hot {
		after += coldWait
	}
	// Either clock will do: the servers' may differ, and this bridge has just begun.
	return max(e.age, observed) >= after
}

// fenced tells that another bridge is about to lead: its padding stands at the end.
func (l *leader) fenced(e end) bool {
	if e.fence == "" || e.fence == l.name {
		return false
	}
	if l.padded != e.seq {
		l.padded, l.paddedSince = e.seq, time.Now()
	}
	return max(e.fenced, time.Since(l.paddedSince)) < fenceTime
}

// pause waits until it may be worth looking again.
func (l *leader) pause(ctx context.Context, e end) {
	wait := lookAgain
	if left := aliveFor - e.age; left > 0 {
		wait = min(wait, left)
	}
	wait += rand.N(lookAgain / 10) // not all at once
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.wake:
	case <-l.stopping:
	case <-ctx.Done():
	}
}

// Questions of a leader without Redis, to those that could go on.
const (
	whoIsHot = "hot"
	whoIsUp  = "up"
)

// listen hears of a leader that leaves, and answers questions.
func (l *leader) listen() (stop func(), err error) {
	pulses, err := l.nc.Subscribe(l.names.Live()+wire.PulseToken, func(m *nats.Msg) {
		if p, err := wire.ParsePulse(m.Data); err == nil && p.Leaving {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe pulses: %w", err)
	}
	questions, err := l.nc.Subscribe(l.names.Bridges(), func(m *nats.Msg) {
		s := l.state.Load()
		if !s.leads && l.link.linked() && (s.hot || string(m.Data) == whoIsUp) && !l.isStopping() {
			_ = m.Respond(nil) // who asked asks again
		}
	})
	if err != nil {
		_ = pulses.Unsubscribe()
		return nil, fmt.Errorf("subscribe questions: %w", err)
	}
	return func() {
		_ = pulses.Unsubscribe()
		_ = questions.Unsubscribe()
	}, nil
}

// giveWay watches, while this bridge leads, for a lost link to Redis, and gives way
// when another bridge has one.
func (l *leader) giveWay(ctx context.Context) {
	const every = 50 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	up := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if l.link.linked() || !l.leads.Load() {
			up = time.Now()
			continue
		}
		question := whoIsHot
		if time.Since(up) > yieldAfter {
			question = whoIsUp
		}
		ask, cancel := context.WithTimeout(ctx, every)
		_, err := l.nc.RequestWithContext(ask, l.names.Bridges(), []byte(question))
		cancel()
		if err == nil {
			select {
			case l.yield <- struct{}{}:
			default:
			}
		}
	}
}
