package ssenode

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// replay brings a session forward by sequences, one step at a time: from each
// topic what follows the position, out of the ring if it reaches back so far,
// else out of a stretch of history, merged into one order. It returns false when
// the session has to wait, for its socket or for a stretch.
func (s *session) replay() bool {
	if s.waiting {
		return false
	}
	l := s.loop
	if s.first == 0 {
		return s.orient()
	}
	if s.ranked && s.full != 0 {
		if some, done := s.replayHigh(); some || !done {
			return done
		}
	}
	frames, r, lost := s.step(l.scratch[:0], 0)
	l.scratch = frames[:0]
	switch {
	case lost != nil:
		s.lose(lost)
		return true
	case s.waiting || s.early:
		return false
	case r == nil: // the cursor was moved
		return true
	}
	for _, m := range *l.marks.Load() {
		if m.since != 0 || m.seq <= s.pos || m.n > s.cursor || m.seq > r.through || s.lossOf("", m.affects) == nil {
			continue
		}
		k, _ := slices.BinarySearchFunc(frames, m.seq, func(f *frame, seq uint64) int { return cmp.Compare(f.seq, seq) })
		if !s.advance(frames[:k], r, m.seq) {
			return false
		}
		s.tell(m)
		return true
	}
	if !s.advance(frames, r, r.through) {
		return false
	}
	if r.through != math.MaxUint64 {
		return true
	}
	// A client may have seen more than this node: it waits then, lest it gets
	// things twice; the next pulse goes on with it.
	if s.back > max(l.seq, l.verified) {
		s.excuse()
		return false
	}
	s.replaying, s.told, s.pos, s.back, s.progress = false, nil, 0, 0, nil
	s.looked = 0 // it was for some topics only
	if !s.holdsBack() {
		s.seq = max(s.seq, s.whole)
	}
	return true
}

// orient is for a client that came before the node knew anything of the stream:
// it goes on from where the stream is now, and is told of what there may have
// been meanwhile. It returns false when it has to wait.
func (s *session) orient() bool {
	head := s.loop.fetcher.d.head.Load()
	for i := range s.subs {
		t := s.subs[i].topic
		t.mu.Lock()
		if t.ring.known == 0 && !(t.literal && t.live) {
			t.await(s)
		}
		t.mu.Unlock()
		if s.waiting {
			return false
		}
	}
	s.first = head
	s.replayFrom(head)
	lost := s.lossOf(gapUpstream, func(t *topic) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.ring.from != 0 || t.live
	})
	if lost != nil {
		lost.to = head
	}
	s.lose(lost)
	return true
}

// reach is how far the frames of a step are complete.
type reach struct {
	through uint64   // all topics; MaxUint64: that is all there is
	ends    []uint64 // each topic, likewise
	lasts   []uint64 // of each topic the last frame, or where it stood
}

// advance writes the frames of a step, which are complete up to a sequence, and
// notes how far each topic has come. What goes out of turn moves only those it is of.
func (s *session) advance(frames []*frame, r *reach, through uint64) bool {
	before := s.pos
	s.pos = 0 // it may be above where the frames are
	done := s.write(frames)
	begun := s.pos
	if s.pos = max(before, begun); s.overtaking {
		s.pos = before
	}
	if s.closed {
		return false
	}
	if !done {
		through = begun // the last frame that was
	}
	for i := range s.subs {
		x, end := &s.progress[i], r.ends[i]
		if end == math.MaxUint64 {
			// There may be more after the cursor, and below where others are.
			end = r.lasts[i]
		}
		x.at = max(x.at, min(through, end))
	}
	if done && through != math.MaxUint64 && !s.overtaking {
		s.pos = max(s.pos, through)
		if !s.holdsBack() {
			s.seq = max(s.seq, min(through, s.whole))
		}
	}
	return done
}

// raise moves the cursor of a replaying session to where its loop is, because a
// ring does not reach back to it, or its topic was not known then: what lies
// between comes by sequences, too, and what has no place in their order at once:
// what has no sequence, and what throttle= held back while the pattern's other
// channels were given out. No id of it vouches for anything.
func (s *session) raise() {
	l := s.loop
	for m := l.nextMark(s, s.cursor); m != nil; m = l.nextMark(s, m.n) {
		if m.seq <= s.pos {
			s.cursor = m.n
			s.tell(m)
			return // and here again
		}
	}
	var rest []*frame
	after := uint64(math.MaxUint64)
	lost := s.lossOf(gapSlow, func(t *topic) bool {
		i := slices.IndexFunc(s.subs, func(x sub) bool { return x.topic == t })
		first := len(rest)
		t.mu.Lock()
		var ok bool
		at := s.progress[i].at
		// Of one channel nothing comes below its place, see beginAnew.
		low := !t.literal && at > s.subs[i].replayed
		rest, ok = t.ring.unordered(rest, max(s.cursor, s.liveDone(i)), l.n, at, low)
		t.mu.Unlock()
		rest = s.wanted(rest, first, i)
		if !ok && low {
			after = min(after, max(s.subs[i].replayed, s.first))
		}
		return !ok
	})
	if lost != nil {
		lost.beginsAfter(after)
	}
	slices.SortStableFunc(rest, func(a, b *frame) int { return cmp.Compare(a.n, b.n) })
	s.cursor = l.n
	if !s.holdsBack() {
		s.whole = max(s.whole, l.verified)
	}
	if s.vouched() {
		// Of topics that are settled everything was given out in its order.
		s.whole = max(s.whole, l.seq)
	}
	s.lose(lost)
	s.also(rest)
}

// also puts frames, without ids, behind what is left to write. They do not move the
// position. The frames are shared: who takes nothing of them costs no copy.
func (s *session) also(frames []*frame) {
	if c := s.poll(); c != nil {
		c.take(withoutID(newest(frames, pollBytes)), s)
		return
	}
	s.next = append(s.next, frames...)
	s.refill()
	s.loop.stats.out(len(frames), 0)
}

// newest are the last frames that have at most max bytes together.
func newest(frames []*frame, max int64) []*frame {
	for i := len(frames) - 1; i >= 0; i-- {
		if max -= frames[i].size(); max < 0 {
			return frames[i+1:]
		}
	}
	return frames
}

// behindRest puts bytes behind all that is left to write.
func (s *session) behindRest(b []byte) {
	if len(s.next) > 0 {
		s.next = append(s.next, &frame{plain: b, wrapped: b})
		return
	}
	s.rest = append(slices.Clip(s.rest), b...) // rest may be part of a frame that others share
}

// refill makes about a chunk of what comes next the rest, once that is written.
func (s *session) refill() {
	if len(s.rest) > 0 || len(s.next) == 0 {
		return
	}
	var b []byte
	for len(s.next) > 0 && len(b) < chunk {
		f := s.next[0]
		s.next[0], s.next = nil, s.next[1:]
		text := f.plain
		if s.wrap {
			if text = f.wrapped; text == nil {
				text = f.wrapLate()
			}
		}
		b = append(b, text[f.idLen:]...)
	}
	if len(s.next) == 0 {
		s.next = nil
	}
	s.rest = b
}

// step collects the next frames of a replay, in order. Without a reach there are
// none, because the session has to wait, or its cursor was moved, or it is to be
// told of a loss first. With ranks only topics that have these take part.
func (s *session) step(dst []*frame, only ranks) (frames []*frame, r *reach, lost *loss) {
	l := s.loop
	r = &l.reach
	r.through, r.ends, r.lasts = math.MaxUint64, r.ends[:0], r.lasts[:0]
	now := time.Now().UnixNano()
	reason := gapExpired
	if s.slow {
		reason = gapSlow
	}
	ahead := fetchAhead
	for i := range s.subs {
		x := &s.progress[i]
		t := s.subs[i].topic
		if t.ranks&only != only {
			r.ends, r.lasts = append(r.ends, x.at), append(r.lasts, x.at)
			continue
		}
		if s.waiting {
			// What it will need next is fetched meanwhile.
			if ahead > 0 && s.aheadOf(i) {
				ahead--
			}
			continue
		}
		end, first := uint64(math.MaxUint64), len(dst)
		t.mu.Lock()
		from := t.ring.from
		least := max(t.ring.evicted+1, t.ring.known) - 1
		switch {
		case least > s.cursor:
			t.mu.Unlock()
			if least > l.n { // it will come, but must not be written then
				l.later(s, least)
			} else {
				s.raise()
			}
			return dst[:0], nil, nil
		case t.literal && t.live:
		case t.ring.known == 0:
			t.await(s)
		case x.at >= from:
			var more bool
			if dst, more = t.ring.since(dst, x.at, s.cursor, chunk); more {
				end = dst[len(dst)-1].seq
			}
			l.stats.read(fromRing, len(dst)-first)
		default:
			h := t.past.holding(x.at)
			switch {
			case h == nil:
				l.fetcher.wait(s, job{topic: t, after: x.at, to: t.past.until(x.at, from)})
			case x.at < h.short && s.told[int32(i)] < h.short:
				h.used = now
				s.note(i, h.short)
				if lost == nil {
					lost = &loss{reason: reason}
				}
				lost.add(t)
				lost.beginsAfter(x.at)
				lost.to = max(lost.to, h.short)
			default:
				h.used = now
				dst, end = h.since(dst, x.at, chunk)
				l.stats.read(fromStream, len(dst)-first)
				s.subs[i].replayed = max(s.subs[i].replayed, end)
			}
		}
		t.mu.Unlock()
		if s.waiting {
			continue
		}
		last := x.at
		if len(dst) > first {
			last = dst[len(dst)-1].seq
		}
		r.ends, r.lasts = append(r.ends, end), append(r.lasts, last)
		r.through = min(r.through, end)
		dst = s.fresh(dst, first, i)
	}
	switch {
	case s.waiting:
		return dst[:0], nil, nil
	case lost != nil:
		return dst[:0], nil, lost
	}
	slices.SortFunc(dst, func(a, b *frame) int { return cmp.Compare(a.seq, b.seq) })
	for len(dst) > 0 && dst[len(dst)-1].seq > r.through {
		dst = dst[:len(dst)-1]
	}
	return dst, r, nil
}

// fetchAhead is for how many topics beyond the one that it waits for a session
// has history fetched.
const fetchAhead = 7

// aheadOf has the next stretch of the i-th subscription fetched, if it will need
// one.
func (s *session) aheadOf(i int) bool {
	t, x := s.subs[i].topic, &s.progress[i]
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.literal && t.live || t.ring.known == 0 || x.at >= t.ring.from || t.past.holding(x.at) != nil {
		return false
	}
	s.loop.fetcher.ahead(job{topic: t, after: x.at, to: t.past.until(x.at, t.ring.from)})
	return true
}
