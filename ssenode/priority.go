package ssenode

import (
	"cmp"
	"math"
	"slices"
	"time"

	"sluice/shared/route"
)

// What priority= in ROUTES means to a client whose socket was full since it fell
// behind (lag.full): its high channels go first, and when it has been so for long its
// low channels skip to their newest. In either case it is only noted, by channel, up to
// where the client is done with it; what is in rings and in the stream up to there is
// passed over when its turn comes. Nothing is kept of the events themselves.
//
// What goes first carries no id and moves no position: a client that comes back gets it
// again. The order of one channel stays as it is. A gap keeps its place in the order of
// what is not given first.

// ranks are the priorities that a topic's channels have, or may have.
type ranks uint8

const (
	someHigh ranks = 1 << iota
	allHigh        // each channel is
	someLow
)

func ranksOf(t *topic, routes *route.Table) (r ranks) {
	high := func(r *route.Route) bool { return r.Priority == route.High }
	low := func(r *route.Route) bool { return r.Priority == route.Low }
	switch {
	case t.literal && high(t.route):
		r = someHigh | allHigh
	case t.literal && low(t.route):
		r = someLow
	case t.literal:
	default:
		if routes.Any(t.pattern, high) {
			r |= someHigh
		}
		if routes.All(t.pattern, high) {
			r |= allHigh
		}
		if routes.Any(t.pattern, low) {
			r |= someLow
		}
	}
	return r
}

// maxAhead bounds the channels of which something is noted for one client; low ones
// take half of it at most. Others go in their turn.
const maxAhead = 256

// ahead is what a session that is behind has had out of turn.
type ahead struct {
	// places tell, by subject, up to where the client was given a channel, or told that
	// it is lost. Channels stay here, so one that had no room never comes in.
	places map[string]place
	// looked is the number up to which high events were looked for.
	looked uint64
}

// done tells whether the client was given the frame out of turn, or told that it is
// lost.
func (a *ahead) done(f *frame) bool { return len(a.places) > 0 && a.covers(f) }

func (a *ahead) covers(f *frame) bool {
	at, is := a.places[f.subject]
	if f.seq == 0 {
		return is && f.n <= at.n
	}
	return is && f.seq <= at.seq
}

// holds makes room for a channel; false if there are too many already.
func (a *ahead) holds(subject string, most int) bool {
	if _, is := a.places[subject]; is {
		return true
	}
	if len(a.places) >= most {
		return false
	}
	if a.places == nil {
		a.places = map[string]place{}
	}
	a.places[subject] = place{}
	return true
}

// move notes that the client is done with a channel up to a place.
func (a *ahead) move(subject string, to place) {
	if at, is := a.places[subject]; is {
		a.places[subject] = place{max(at.n, to.n), max(at.seq, to.seq)}
	}
}

// noteFull notes that the socket takes no more.
func (s *session) noteFull() {
	if s.full == 0 {
		s.full = s.since
	}
}

// excuse is for a session that has waited, and not for its client.
func (s *session) excuse() {
	now := time.Now().UnixNano()
	if s.full != 0 {
		s.full += now - s.since
	}
	s.since = now
}

// leading is how many of the frames stand before the first that is not high.
func leading(frames []*frame) int {
	for i, f := range frames {
		if f.priority != route.High {
			return i
		}
	}
	return len(frames)
}

// overtake gives high events that are numbered after the cursor, about a chunk of them.
// It tells whether there were some, and whether the socket took them all.
//
// While the session replays, these are of topics with nothing but high channels, which
// replayHigh has brought to the cursor: of others something earlier may be to come.
func (s *session) overtake() (some, done bool) {
	l := s.loop
	for from := max(s.cursor, s.looked); from < l.n; from = s.looked {
		frames, through, ok := s.high(l.urgent[:0], from)
		l.urgent = frames[:0]
		if !ok {
			clear(frames)
			return false, true
		}
		if len(frames) == 0 {
			s.looked = through
			continue
		}
		pos := s.pos
		s.overtaking = true
		done = s.write(frames)
		s.overtaking, s.pos = false, pos
		if done {
			s.looked = through
		}
		return true, done
	}
	return false, true
}

// high collects the high events numbered above from, in order, and tells up to where
// they are complete; ok is false when rings do not have them all.
func (s *session) high(dst []*frame, from uint64) (frames []*frame, through uint64, ok bool) {
	through = s.loop.n
	for i := range s.subs {
		t, first := s.subs[i].topic, len(dst)
		if t.ranks&someHigh == 0 || s.replaying && t.ranks&allHigh == 0 {
			continue
		}
		more, after := false, max(from, s.liveDone(i))
		if !s.replaying {
			after = s.doneUpTo(i, from)
		}
		t.mu.Lock()
		if ok = t.ring.known != 0 && t.ring.known-1 <= from || t.literal && t.live; ok {
			dst, more, ok = t.ring.high(dst, after, through, chunk)
		}
		t.mu.Unlock()
		if !ok {
			return dst, 0, false
		}
		if more {
			through = min(through, dst[len(dst)-1].n)
		}
		dst = s.wanted(dst, first, i)
	}
	slices.SortFunc(dst, func(a, b *frame) int { return cmp.Compare(a.n, b.n) })
	for len(dst) > 0 && dst[len(dst)-1].n > through {
		dst = dst[:len(dst)-1]
	}
	return slices.DeleteFunc(dst, func(f *frame) bool { return !s.holds(f.subject, maxAhead) }), through, true
}

// overtook notes that the frames have gone before their turn.
func (s *session) overtook(frames []*frame) {
	for _, f := range frames {
		s.move(f.subject, place{f.n, f.seq}) // in a replay see progress
		s.looked = max(s.looked, f.n)
		s.pos = max(s.pos, f.seq) // for who has to know how far it came
	}
}

// replayHigh brings the topics with nothing but high channels forward before the
// others, and then what is numbered after the cursor. It tells whether something was
// done, and false for done when the session has to wait.
func (s *session) replayHigh() (some, done bool) {
	l := s.loop
	is := func(x sub) bool { return x.topic.ranks&allHigh != 0 }
	if !slices.ContainsFunc(s.subs, is) || !slices.ContainsFunc(s.subs, func(x sub) bool { return !is(x) }) {
		return false, true
	}
	frames, r, lost := s.step(l.scratch[:0], allHigh)
	l.scratch = frames[:0]
	switch {
	case lost != nil:
		s.lose(lost)
		return true, true
	case s.waiting || s.early:
		return false, false
	case r == nil: // the cursor was moved
		return true, true
	case len(frames) == 0 && r.through == math.MaxUint64:
		return s.overtake()
	}
	s.overtaking = true
	done = s.advance(frames, r, r.through)
	s.overtaking = false
	return true, done
}
