package ssenode

import "slices"

// sweep gives a batch of frames to all sessions that are current.
func (l *loop) sweep(batch []op) {
	seq := l.seq
	for _, o := range batch {
		if lt := o.topic.byLoop[l.index].local; lt != nil && len(lt.clients) > 0 {
			if o.frame.seq != 0 {
				lt.last, lt.lastN = o.frame.seq, o.frame.n
			}
			if lt.share == nil {
				lt.share = l.takeShare()
				l.dirty = append(l.dirty, lt)
			}
			lt.share.pending = append(lt.share.pending, o.frame)
			lt.share.single = lt.share.single || o.frame.old || o.frame.criteria != nil
		}
		seq = max(seq, o.frame.seq)
	}
	l.n = batch[len(batch)-1].frame.n
	for _, lt := range l.dirty {
		for _, c := range lt.clients {
			switch {
			case c.behind:
			case (len(c.subs) == 1 || len(l.dirty) == 1 && !c.overlap) && !lt.share.single && !c.cut:
				lt.give(c.session)
			default:
				// It may have frames of other topics in this batch.
				l.touchedBy(c)
			}
		}
	}
	for i := range l.touched {
		x := &l.touched[i]
		l.merge(x.session, x.subs)
		x.session.touch = 0
		x.session, x.subs = nil, x.subs[:0]
	}
	l.touched = l.touched[:0]
	for i, lt := range l.dirty {
		lt.done(l)
		l.dirty[i] = nil
	}
	l.dirty = l.dirty[:0]
	// Only now: a session that fell behind in the middle has not passed it.
	l.seq = seq
}

// touched is a session with frames of several topics in a batch.
type touched struct {
	session *session
	subs    []int32 // that have some
}

// touchedBy notes that a client's subscription has frames in the batch.
func (l *loop) touchedBy(c client) {
	if c.touch == 0 {
		if n := len(l.touched); n < cap(l.touched) {
			l.touched = l.touched[:n+1] // with the room of its list
		} else {
			l.touched = append(l.touched, touched{})
		}
		c.touch = int32(len(l.touched))
		l.touched[c.touch-1].session = c.session
	}
	x := &l.touched[c.touch-1]
	x.subs = append(x.subs, c.sub)
}

// merge gives a session the pending frames of several topics, in order.
func (l *loop) merge(s *session, dirty []int32) {
	if s.behind {
		return
	}
	if s.cut && !s.owing {
		s.cut = !s.whollyVerified() // from then on it shares what is written again
	}
	if lt := s.subs[dirty[0]].topic.byLoop[l.index].local; len(dirty) == 1 && !s.overlap && !lt.share.single && !s.cut {
		lt.give(s)
		return
	}
	frames := l.scratch[:0]
	for _, i := range dirty {
		for _, f := range s.subs[i].topic.byLoop[l.index].local.share.pending {
			if s.takes(int(i), f) {
				frames = append(frames, f)
			}
		}
	}
	slices.SortFunc(frames, func(a, b *frame) int { return int(int64(a.n - b.n)) })
	l.scratch = frames[:0]
	for rest := frames; len(rest) > 0 && !s.behind; {
		k := chunkOf(rest, s.wrap)
		s.give(l.join(rest[:k], s), rest[:k])
		if rest = rest[k:]; s.behind && !s.closed && len(rest) > 0 {
			break // its position tells where it goes on
		}
	}
	clear(frames)
}

// join puts frames one behind the other in the loop's buffer, which the next
// join overwrites.
func (l *loop) join(frames []*frame, s *session) []byte {
	if len(frames) == 1 {
		return s.bytesOf(frames[0])
	}
	b := l.joined[:0]
	for _, f := range frames {
		b = append(b, s.bytesOf(f)...)
	}
	if cap(b) <= 1<<20 {
		l.joined = b[:0]
	}
	return b
}
