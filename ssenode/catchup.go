package ssenode

import (
	"slices"

	"sluice/shared/wire"
)

// chunk is about how many bytes are joined for one write, as many as a client's
// kernel buffer holds.
const chunk = 64 << 10

// catchUp brings a session that is behind forward from its position: first the
// rest of the frame that is begun, then what its topics' rings hold up to where
// the loop is. It ends when the session is current or its socket full again.
func (s *session) catchUp() {
	l := s.loop
	for !s.closed {
		if len(s.rest) > 0 {
			n, err := s.sock.Write(s.rest)
			if err != nil {
				l.drop(s, clientGone, err)
				return
			}
			l.stats.out(0, n)
			if s.rest = s.rest[n:]; len(s.rest) > 0 {
				return
			}
			s.rest = nil
		}
		frames, upTo, lost := s.missed(l.scratch[:0])
		l.scratch = frames[:0]
		switch {
		case lost != nil:
			l.stats.dropped[slowClient].Add(1)
			s.rest = s.gap(lost)
			continue // what the rings still hold follows it
		case len(frames) == 0 && upTo == l.n:
			s.behind, s.told = false, nil
			delete(l.behind, s)
			return
		}
		buf := l.join(frames, s)
		n, err := s.sock.Write(buf)
		if err != nil {
			l.drop(s, clientGone, err)
			return
		}
		l.stats.out(len(frames), n)
		if n < len(buf) {
			s.cutAt(frames, n)
			clear(frames)
			return
		}
		for _, f := range frames {
			s.passed(f)
		}
		s.cursor = upTo
		clear(frames) // do not keep them alive from the scratch space
	}
}

// loss says which topics' rings no longer reach back to a session's position.
type loss struct {
	channels, patterns []string
	seq                uint64 // of the newest frame lost, 0 without history
}

// add notes the topic, whose lock the caller holds.
func (l *loss) add(t *topic) {
	l.seq = max(l.seq, t.ring.evictedSeq)
	if t.literal {
		l.channels = append(l.channels, printable(t.name))
	} else {
		l.patterns = append(l.patterns, t.name)
	}
}

// missed collects the next frames after the session's position over all its
// topics, in order, about a chunk of bytes, and tells up to which number they
// are complete. When a ring has moved on there are no frames but the loss.
func (s *session) missed(dst []*frame) (frames []*frame, upTo uint64, lost *loss) {
	upTo = s.loop.n
	for i := range s.subs {
		t := s.subs[i].topic
		first := len(dst)
		t.mu.Lock()
		var more, ok bool
		dst, more, ok = t.ring.after(dst, max(s.cursor, s.told[int32(i)]), upTo, chunk)
		if !ok {
			if lost == nil {
				lost = &loss{}
			}
			lost.add(t)
			if s.told == nil {
				s.told = map[int32]uint64{}
			}
			s.told[int32(i)] = t.ring.resumeAt()
			t.mu.Unlock()
			continue
		}
		t.mu.Unlock()
		if more {
			upTo = min(upTo, dst[len(dst)-1].n)
		}
		if s.overlap {
			dst = append(dst[:first], slices.DeleteFunc(dst[first:], func(f *frame) bool { return !s.takes(i, f) })...)
		}
	}
	if lost != nil {
		return dst[:0], s.cursor, lost
	}
	if len(s.subs) > 1 {
		slices.SortFunc(dst, func(a, b *frame) int { return int(int64(a.n - b.n)) })
		for len(dst) > 0 && dst[len(dst)-1].n > upTo {
			dst = dst[:len(dst)-1]
		}
	}
	return dst, upTo, nil
}

// gapEvent is the data of `event: gap`.
type gapEvent struct {
	Channels []string `json:"channels"`
	Patterns []string `json:"patterns"`
	Reason   string   `json:"reason"`
	From     *string  `json:"from"`
	To       *string  `json:"to"`
}

// gap encodes the event that tells a client what it has lost. Its id is the
// position before the loss: nothing later may be claimed while frames of other
// channels are still owed.
func (s *session) gap(l *loss) []byte {
	e := gapEvent{Channels: l.channels, Patterns: l.patterns, Reason: slowClient.String()}
	if e.Channels == nil {
		e.Channels = []string{}
	}
	if e.Patterns == nil {
		e.Patterns = []string{}
	}
	at := s.position()
	if at != (wire.ID{}) && at.Epoch != "" {
		from := at.String()
		e.From = &from
	}
	if to := (wire.ID{Epoch: s.loop.epoch(), Seq: l.seq}); to.Epoch != "" && to.Seq != 0 {
		text := to.String()
		e.To = &text
	}
	return appendControl(nil, at, "gap", e)
}
