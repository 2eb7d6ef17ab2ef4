package ssenode

import (
	"math"

	"sluice/shared/route"
)

// overdue tells whether the client has been behind for so long that its low channels
// are to skip. Its clock is stopped while it waits for history.
func (s *session) overdue() bool {
	after := int64(s.loop.behindAfter)
	return s.ranked && s.full != 0 && s.since-s.full > after && !(s.replaying && (s.waiting || s.first == 0)) &&
		s.since-s.weighed >= after/8 // looking costs as much as its rings are long
}

// skip lets the low channels skip to the newest event of each, which comes in its turn,
// and tells of it. The clock begins anew then, so a client that stays behind is told
// once in SSENODE_BEHIND_AFTER. It returns false when nothing was done, and it is to be
// asked again: something has to be fetched first.
func (s *session) skip() bool {
	for i := range s.subs {
		if s.subs[i].topic.ranks&someLow != 0 && !s.atHand(i) {
			return false
		}
	}
	var lost *loss
	for i := range s.subs {
		t := s.subs[i].topic
		if t.ranks&someLow == 0 {
			continue
		}
		if after, to, some := s.skipOn(i); some {
			if lost == nil {
				lost = &loss{reason: gapDropped}
			}
			lost.add(t)
			lost.beginsAfter(after)
			lost.to = max(lost.to, to)
		}
	}
	if lost == nil && s.replaying {
		s.weighed = s.since
		return false // there may be in what is fetched next
	}
	s.full = s.since
	if lost != nil {
		s.loop.stats.dropped[behindClient].Add(1)
		s.lose(lost)
	}
	return true
}

// atHand tells whether what comes next of the i-th subscription is in memory.
func (s *session) atHand(i int) bool {
	t := s.subs[i].topic
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.literal && t.live:
		return true
	case t.ring.known == 0:
		return false
	case !s.replaying:
		return t.ring.evicted <= s.cursor // else it is about to replay
	}
	at := s.progress[i].at
	return at >= t.ring.from || t.literal && t.ring.len > 0 || t.past.holding(at) != nil
}

// skipOn lets the low channels of the i-th subscription skip, as far as their events
// are at hand. It tells whether there were some to skip, and after which sequence, up to
// which, they are.
func (s *session) skipOn(i int) (after, to uint64, some bool) {
	t := s.subs[i].topic
	t.mu.Lock()
	defer t.mu.Unlock()
	frames := s.loop.urgent[:0]
	after = math.MaxUint64
	switch {
	case !s.replaying:
		frames, _, _ = t.ring.after(frames, s.doneUpTo(i, s.cursor), s.loop.n, math.MaxInt64)
		frames = s.wanted(frames, 0, i)
	case t.literal && !t.live:
		return s.skipChannel(i)
	default:
		frames = s.toCome(frames, i)
	}
	s.loop.urgent = frames[:0]
	defer clear(frames)
	newest := map[string]*frame{}
	for _, f := range frames {
		newest[f.subject] = f
	}
	for _, f := range frames {
		if f.priority != route.Low || newest[f.subject] == f || !s.holds(f.subject, maxAhead/2) {
			continue
		}
		s.move(f.subject, place{f.n, f.seq})
		if to, some = max(to, f.seq), true; f.seq == 0 {
			continue
		}
		after = min(after, f.seq-1) // what came late is below the session's position
		if s.replaying {
			after = min(after, s.progress[i].at) // what is not at hand is passed over, too
		}
	}
	return after, to, some
}

// toCome collects what is at hand of what a replay has yet to give of the i-th
// subscription, a pattern or a channel without history, and of what is numbered after
// the cursor; each channel's in order. The caller holds the topic's lock.
func (s *session) toCome(dst []*frame, i int) []*frame {
	t, at := s.subs[i].topic, s.progress[i].at
	for k := range int(t.ring.len) { // what has no place in the order of sequences, or came late
		if f := t.ring.at(k); s.cursor < f.n && f.n <= s.loop.n && f.seq <= at {
			dst = append(dst, f)
		}
	}
	dst = s.wanted(dst, 0, i)
	first := len(dst)
	if h := t.past.holding(at); h != nil && !t.literal && at < t.ring.from {
		dst, _ = h.since(dst, at, math.MaxInt64)
	}
	for k := range int(t.ring.len) {
		if f := t.ring.at(k); f.n <= s.loop.n && f.seq > at {
			dst = append(dst, f)
		}
	}
	return s.fresh(dst, first, i) // not wanted: it may have been collected and not written
}

// skipChannel is skipOn for a channel with history, in a replay: there the sequence of
// its newest event is known even if the event is not at hand (and whom that is for is
// not looked at). The caller holds the topic's lock.
func (s *session) skipChannel(i int) (after, to uint64, some bool) {
	t, x := s.subs[i].topic, &s.progress[i]
	newest := uint64(0)
	for k := int(t.ring.len) - 1; k >= 0 && !some; k-- {
		switch f := t.ring.at(k); {
		case f.n > s.loop.n || f.seq <= x.at || !s.takes(i, f) || s.done(f):
		case newest == 0:
			newest = f.seq
		default:
			some = true
		}
	}
	if x.at < t.ring.from {
		if newest != 0 {
			some = true // what is at from
		} else if h := t.past.holding(x.at); h != nil {
			newest = t.ring.from
			next, _ := h.since(nil, x.at, 1)
			some = h.through < newest || len(next) > 0 && next[0].seq < newest
		}
	}
	if !some || !s.holds(t.subject(), maxAhead/2) {
		return 0, 0, false
	}
	after, to = x.at, newest-1
	s.move(t.subject(), place{seq: to})
	x.at = max(x.at, to)
	return after, to, true
}
