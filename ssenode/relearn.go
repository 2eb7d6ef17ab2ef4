package ssenode

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

// A topic of which something was missed, or may have been, is begun anew: its
// place in the stream is learned again, its ring starts empty there, unless
// nothing was missed after all, and its clients replay from where they are, like
// clients that come back. So there is one way only in which anything that did not
// come live is given out.

// relearnt is a topic to be learned anew, and what was given out of it.
type relearnt struct {
	topic *topic
	upTo  uint64            // everything up to here
	tails map[string]uint64 // of a pattern: and of these subjects up to there
	late  []*frame          // those in its ring with something later before them
}

// relearn begins the topics anew.
func (d *dispatcher) relearn(topics []*topic) {
	var list []relearnt
	for _, t := range topics {
		if !t.chain.learned || t.literal && t.live {
			continue
		}
		d.throttled.release(d, t, time.Now()) // what comes of that was given out, too
		r := relearnt{topic: t, upTo: t.chain.known, tails: t.chain.tails}
		if t.chain.late {
			r.late = t.lateFrames()
		}
		if t.literal {
			r.upTo = max(t.chain.known, t.chain.tail)
		}
		list = append(list, r)
		d.begin(t)
		if t.literal {
			t.chain.had = r.upTo
		} else {
			d.emptyRing(t)
		}
		d.stats.relearned.Add(1)
	}
	if len(list) > 0 {
		d.tell(func(l *loop) { l.relearn(list) })
	}
}

// beginSome begins the stale topics anew, all of them at once: a client that replays
// already because of one would not hear of what another one has missed.
func (d *dispatcher) beginSome() {
	n := len(d.stale)
	topics := slices.DeleteFunc(d.stale[:n:n], func(t *topic) bool {
		return d.hub.topics[t.subject()] != t // its last client has left
	})
	d.stale = d.stale[n:]
	d.relearn(topics)
	if len(d.stale) > 0 {
		return
	}
	d.stale = nil
	d.tell(func(l *loop) { l.withhold(false) })
	if d.answer != nil {
		d.checked(d.answer)
	}
}

// begin lets the topic's place in the stream be learned.
func (d *dispatcher) begin(t *topic) {
	d.throttled.release(d, t, time.Now())
	t.mu.Lock()
	t.ring.known = 0
	t.mu.Unlock()
	d.forgetEarly(&t.chain)
	t.chain = chain{}
	d.unsettle(t, 0)
	if d.checking {
		d.unlearned = append(d.unlearned, t)
	} else {
		d.learner.add(t)
	}
}

// relearn lets the clients of the topics replay them.
func (l *loop) relearn(list []relearnt) {
	var turned []*session
	for i := range list {
		r := &list[i]
		for _, c := range r.topic.on(l).clients {
			s := c.session
			switch {
			case s.closed:
				continue
			case !s.behind:
				s.beginAnew()
				turned = append(turned, s)
			case s.byNumbers() && s.cursor >= l.restarted.n && s.cursor >= l.forgotten:
				// It would go on where it is once its socket takes more, and pass over what
				// is missing before.
				s.goBySequence()
			}
			s.unsettle()
			switch replayed := s.subs[c.sub].replayed; {
			case s.turning:
				s.progress[c.sub] = progress{at: max(replayed, r.upTo)}
				s.progress[c.sub].has(r.tails, math.MaxUint64)
			case s.replaying:
				x := &s.progress[c.sub]
				x.again(r, replayed, s.cursor)
				s.seq = min(s.seq, max(s.given, x.at))
			}
		}
	}
	for _, s := range turned {
		s.turning = false
		s.catchUp()
	}
}

// again goes back, in a replay that has come further, to where the topic was complete:
// what was missed may lie before where the replay is. Of a pattern it has what was given
// out of each channel up to its place; but not what was given out late, that is with a
// lower sequence than its place, after its cursor: that was to come by numbers, and the
// ring is empty now.
func (x *progress) again(r *relearnt, replayed, cursor uint64) {
	upTo, tails := r.upTo, r.tails
	var lowest map[string]uint64 // of what came late, by subject
	for _, f := range r.late {
		if f.n <= cursor {
			continue
		}
		if r.topic.literal {
			upTo = min(upTo, f.seq-1)
			continue
		}
		if lowest == nil {
			lowest = map[string]uint64{}
		}
		if at, is := lowest[f.subject]; !is || f.seq < at {
			lowest[f.subject] = f.seq
		}
	}
	if lowest != nil {
		tails = maps.Clone(tails) // others have it, too
		for subject, seq := range lowest {
			tails[subject] = min(tails[subject], seq-1)
		}
	}
	x.has(tails, x.at)
	// What it has replayed it may have collected only, and not written yet.
	x.at = min(x.at, max(replayed, upTo))
}

// lateFrames are those in the topic's ring before which something later was given out.
// There are hardly ever any.
func (t *topic) lateFrames() (list []*frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range int(t.ring.len) {
		if f := t.ring.at(i); f.old {
			list = append(list, f)
		}
	}
	return list
}

// beginAnew makes a current session one that replays, and has all that its loop was
// given.
func (s *session) beginAnew() {
	l := s.loop
	s.fallBehind()
	s.replays()
	s.turning, s.cursor, s.pos = true, l.n, l.seq
	for i := range s.subs {
		at := l.seq
		if lt := s.subs[i].topic.on(l); lt.owed > 0 && lt.held != 0 && s.subs[i].topic.literal {
			at = min(at, lt.held-1) // of a pattern see raise
		}
		if t := s.subs[i].topic; t.literal && !t.live {
			// Of one channel it is known; what comes of it late then is after its place.
			at = min(at, s.lastOf(i))
		}
		s.progress[i].at = max(s.subs[i].replayed, at)
	}
}

// lastOf is the sequence of the newest message of the i-th subscription, a channel, that
// the loop was given: by the ring, unless that has forgotten already what the loop has yet
// to get.
func (s *session) lastOf(i int) uint64 {
	l, t := s.loop, s.subs[i].topic
	t.mu.Lock()
	last, ok := t.ring.lastUpTo(l.n)
	t.mu.Unlock()
	switch lt := t.on(l); {
	case ok:
		return last
	case lt.lastN > l.restarted.n:
		return lt.last
	}
	return max(s.subs[i].replayed, s.first) // none since there are clients
}

// unsettle withholds the session's ids until all its topics are settled.
func (s *session) unsettle() {
	if !s.unsettled {
		s.unsettled = true
		s.loop.fresh = append(s.loop.fresh, s)
	}
}

// emptyRing takes a number of its own: a client that has the newest frame, and so is
// behind at its number, has not what is missing.
func (d *dispatcher) emptyRing(t *topic) {
	d.hub.n++
	d.rings.empty(t, d.hub.n)
}

// known tells where the topic stands, and lets sessions begin on it: it has
// everything up to the head, so that none of its messages comes after one of
// another topic that a pulse has vouched for.
func (d *dispatcher) known(t *topic, last uint64) {
	if had := t.chain.had; had != 0 && last > had {
		d.emptyRing(t)
	}
	t.mu.Lock()
	if t.ring.known = d.hub.n + 1; last > t.chain.had {
		t.ring.from = last
	}
	waiting := t.takeWaiting()
	t.mu.Unlock()
	wake(waiting)
	t.nowReady()
}

// learned starts the chains of topics. What came meanwhile is handled now. It tells
// whether messages of some of them are awaited.
func (d *dispatcher) learned(places []learnt) (awaited bool) {
	head, now := d.head.Load(), time.Now()
	for _, p := range places {
		t, c := p.topic, &p.topic.chain
		switch {
		case d.hub.topics[t.subject()] != t:
			d.forgetEarly(c) // its last client has left
			continue
		case c.learned:
			continue
		case t.literal && t.live:
			c.learned = true
			t.settled.Store(1)
			d.known(t, 0)
			continue
		case d.checking:
			d.unlearned = append(d.unlearned, t)
			continue
		case c.early != nil && c.early.full: // some of what came was not kept
			d.forgetEarly(c)
			d.learner.add(t)
			continue
		case p.upTo < head: // a pulse was checked meanwhile, without this topic
			d.learner.add(t)
			continue
		}
		last, all, good := p.last, max(p.upTo, p.last), false
		if t.literal && c.had != 0 && last > c.had {
			switch to, whole := c.joined(); {
			case to >= last:
				good = true
			case whole && now.Before(d.patient):
				d.learner.add(t) // it may be on its way, which is sooner than a replay
				awaited = true
				continue
			}
		}
		c.learned = true
		if !t.literal {
			c.tails = map[string]uint64{}
		}
		early := d.forgetEarly(c)
		if good {
			// What the stream has more than was here has come live meanwhile: nothing was
			// missed, and the ring is good.
			last = c.had
			c.known, c.tail = last, last
			for len(early) > 0 && sequence(early[0]) <= all {
				d.message(t, early[0], now)
				early = early[1:]
			}
		}
		c.known, c.tail = all, max(c.tail, last)
		// Also where the stream is ahead: what it is ahead with may be lost, and a pulse
		// before that does not tell.
		d.unsettle(t, max(p.upTo, p.last, head))
		d.known(t, last)
		for _, m := range early {
			d.message(t, m, now)
		}
	}
	return awaited
}

func sequence(m *nats.Msg) uint64 { return number(m.Header, wire.HeaderSequence) }

// joined tells up to where messages that came early join on where the channel was
// complete, and whether none after that shows a hole.
func (c *chain) joined() (to uint64, whole bool) {
	to = c.had
	if c.early == nil {
		return to, true
	}
	for _, m := range c.early.list {
		switch seq := sequence(m); {
		case seq <= to:
		case number(m.Header, wire.HeaderLastSequence) > to:
			return to, false
		default:
			to = seq
		}
	}
	return to, true
}
