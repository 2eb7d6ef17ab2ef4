package ssenode

import (
	"cmp"
	"slices"

	"sluice/shared/wire"
)

// start is how a new session begins: where it goes on from, or with which
// events.
type start struct {
	id      string // that the client came back with, "" if with none
	from    wire.ID
	unknown bool  // the id is not one of the stream's
	initial []int // by sub: how many of the last events, nil for none at all
	late    bool  // it came before the place of a topic in the stream was known
}

// begin does what is to be done first, and then lets go of it.
func (s *session) begin() {
	st, l := s.start, s.loop
	switch {
	case st.id == "" && st.initial == nil:
		s.start = nil
		if st.late {
			s.replayFrom(s.first)
		}
	case st.id == "":
		s.initial()
	case st.unknown || st.from.Epoch != l.epoch:
		reason := gapUnknownID
		if !st.unknown {
			reason = gapRecreated
		}
		lost := s.lossOf(reason, anyTopic)
		lost.to = s.seq
		if !st.unknown || st.from.Epoch != "" {
			lost.from = st.id
		}
		s.lose(lost)
		st.id = "" // what is initial is sent all the same
	default:
		s.start = nil
		s.resume(st)
	}
}

// resume goes on from the client's id.
func (s *session) resume(st *start) {
	s.replayFrom(st.from.Seq)
	s.resumed, s.first = true, st.from.Seq
	s.given, s.back = s.seq, s.seq
	if s.holdsBack() {
		s.whole = 0 // whatever pulses have vouched for when it came
	}
	s.raise()
	var from *mark // of those that doubt the id, the one that goes back furthest
	for _, m := range *s.loop.marks.Load() {
		if m.doubts(st.from.Seq) && (from == nil || m.since < from.since) {
			from = m
		}
	}
	if from == nil {
		return
	}
	lost := s.lossOf(gapUpstream, func(t *topic) bool { return !t.literal || !t.live })
	if lost == nil {
		return
	}
	s.replayFrom(from.since)
	s.given, s.first = s.seq, s.seq
	if c := s.poll(); c != nil {
		c.until = from.seq // with an id below, the next one would be sent back again
	}
	lost.from, lost.to = st.id, from.seq
	s.lose(lost)
}

// replayFrom goes on after a sequence up to which the client has everything.
func (s *session) replayFrom(seq uint64) {
	s.replays()
	s.pos, s.seq = seq, seq
	for i := range s.subs {
		s.subs[i].replayed, s.progress[i] = seq, progress{at: seq}
	}
}

// initial gives the last events of channels that ask for it, without ids, and
// then the position.
func (s *session) initial() {
	l := s.loop
	var frames []*frame
	if s.waiting {
		return
	}
	for i, n := range s.start.initial {
		t := s.subs[i].topic
		if n == 0 || t.literal && t.live {
			continue
		}
		first := len(frames)
		t.mu.Lock()
		from := t.ring.from
		if t.ring.known == 0 {
			t.await(s)
			t.mu.Unlock()
			return
		}
		frames, _ = t.ring.since(frames, 0, s.cursor, 1<<40)
		missing := !t.literal || len(frames)-first < n
		if tl := t.past.last(); missing && from != 0 {
			if tl == nil || tl.upTo != from || tl.count < n {
				l.fetcher.wait(s, job{topic: t, to: from, tail: n})
				t.mu.Unlock()
				return
			}
			frames = slices.Insert(frames, first, tl.frames...)
		}
		t.mu.Unlock()
		frames = s.wanted(frames, first, i)
		frames = lastOfEach(frames, first, n, t.literal)
	}
	slices.SortStableFunc(frames, func(a, b *frame) int { return cmp.Compare(a.seq, b.seq) })
	s.start = nil
	s.also(frames)
	if s.vouched() && l.epoch != "" && s.first != 0 {
		s.given = max(s.given, s.first)
		s.behindRest(append(appendID(nil, wire.ID{Epoch: l.epoch, Seq: s.given}), '\n'))
	}
}

// withoutID copies frames without their ids.
func withoutID(frames []*frame) []*frame {
	for i, f := range frames {
		c := *f
		c.plain, c.idLen = f.plain[f.idLen:], 0
		if f.wrapped != nil {
			c.wrapped = f.wrapped[f.idLen:]
		}
		frames[i] = &c
	}
	return frames
}

// lastOfEach leaves of frames[first:], the events of a topic in order, the last
// n, or the last n of each channel of a pattern.
func lastOfEach(frames []*frame, first, n int, literal bool) []*frame {
	if literal {
		if drop := len(frames) - first - n; drop > 0 {
			frames = slices.Delete(frames, first, first+drop)
		}
		return frames
	}
	seen := map[string]int{}
	for i := len(frames) - 1; i >= first; i-- {
		f := frames[i]
		if seen[f.subject]++; seen[f.subject] > n {
			frames = slices.Delete(frames, i, i+1)
		}
	}
	return frames
}
