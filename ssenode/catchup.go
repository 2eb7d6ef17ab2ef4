package ssenode

import "slices"

// chunk is about how many bytes are joined for one write, as many as a client's
// kernel buffer holds.
const chunk = 64 << 10

// catchUp brings a session that is behind forward from its position: first the
// rest of what is begun, then what its topics hold up to where the loop is. It
// ends when the session is current, its socket full again, or history has to be
// fetched.
func (s *session) catchUp() {
	l := s.loop
	if s.given == 0 && len(s.rest) > 0 && len(s.next) == 0 && s.poll() == nil && s.upToDate() && s.advances() {
		s.rest = s.position(slices.Clip(s.rest)) // its first, in one write with its greeting
	}
	for !s.closed && s.behind {
		if !s.writeRest() {
			return
		}
		if s.early {
			return
		}
		switch {
		case s.cursor < l.restarted.n:
			s.afterRestart()
			continue
		case s.start != nil:
			if s.waiting || l.lags() {
				return
			}
			s.begin()
			continue
		case s.overdue() && s.skip():
			continue
		case s.replaying:
			if !s.replay() {
				return
			}
			continue
		case s.cursor < l.forgotten:
			// Marks that it had to be told of are not known any more.
			s.cursor = l.forgotten
			s.lose(s.lossOf(gapUpstream, anyTopic))
			continue
		}
		upTo := l.n
		m := l.nextMark(s, s.cursor)
		if m != nil {
			upTo = m.n
		}
		frames, upTo, lost := s.missed(l.scratch[:0], upTo)
		l.scratch = frames[:0]
		if lost != nil {
			s.lose(lost)
			continue
		}
		if s.replaying {
			continue
		}
		if len(frames) == 0 && upTo == l.n && m == nil {
			s.current()
			return
		}
		if s.ranked && s.full != 0 && len(frames) > 0 {
			k := leading(frames)
			if k == 0 {
				some, done := s.overtake()
				if some || !done {
					clear(frames)
				}
				if !done {
					return
				}
				if some {
					continue
				}
			} else if k < len(frames) {
				clear(frames[k:])
				frames, upTo = frames[:k], frames[k-1].n
			}
		}
		// What was held back for a while comes after newer ones, also to who gets all
		// of them now.
		s.owes = s.owing && s.owesOld()
		if !s.write(frames) {
			return
		}
		s.cursor = upTo
		if m != nil && upTo == m.n {
			s.tell(m)
		}
	}
}

// upToDate tells whether a session that is behind has nothing more to get than the
// rest of what is begun.
func (s *session) upToDate() bool {
	l := s.loop
	if s.early || s.start != nil || s.replaying || s.cursor < l.restarted.n || s.cursor < l.forgotten || l.nextMark(s, s.cursor) != nil {
		return false
	}
	for i := range s.subs {
		t := s.subs[i].topic
		t.mu.Lock()
		newest := t.ring.evicted
		if t.ring.len > 0 {
			newest = t.ring.at(int(t.ring.len) - 1).n
		}
		known := t.ring.known != 0 || t.literal && t.live
		t.mu.Unlock()
		if newest > s.cursor || !known {
			return false
		}
	}
	return true
}

// current ends catching up.
func (s *session) current() {
	changes := s.changes
	s.behind, s.lag = false, nil
	delete(s.loop.behind, s)
	if !s.unsettled && s.given == 0 {
		s.beat(nil) // its first position
	}
	for _, c := range changes {
		s.change(c)
	}
	s.polled()
}

// writeRest returns false when the socket takes no more, or the session closed.
func (s *session) writeRest() bool {
	for s.refill(); len(s.rest) > 0; s.refill() {
		n, err := s.sock.Write(s.rest)
		if err != nil {
			s.loop.drop(s, clientGone, err)
			return false
		}
		s.loop.stats.out(0, n)
		if s.rest = s.rest[n:]; len(s.rest) > 0 {
			s.noteFull()
			return false
		}
		s.rest = nil
	}
	return true
}

// write gives frames; it returns false when the socket took only a part.
func (s *session) write(frames []*frame) bool {
	l := s.loop
	defer clear(frames) // the scratch space does not keep them alive
	if s.poll() != nil {
		k := s.poll().take(frames, s)
		s.passed(frames[:k])
		s.polled()
		return k == len(frames) && !s.closed
	}
	for rest := frames; len(rest) > 0; {
		k := chunkOf(rest, s.wrap)
		buf := l.join(rest[:k], s)
		n, err := s.sock.Write(buf)
		if err != nil {
			l.drop(s, clientGone, err)
			return false
		}
		l.stats.out(k, n)
		if n < len(buf) {
			s.cutAt(rest[:k], n)
			return false
		}
		s.wrote(rest[:k])
		rest = rest[k:]
	}
	return true
}

// lose tells the client of a loss of its own before anything else.
func (s *session) lose(lost *loss) {
	if lost == nil {
		return
	}
	s.noteLoss(&s.loop.stats.diary, lost)
	s.say(lost)
}

// say is lose for a loss that others have, too.
func (s *session) say(lost *loss) {
	if lost == nil {
		return
	}
	if lost.reason == gapSlow {
		s.loop.stats.dropped[slowClient].Add(1)
	}
	e, text := s.gap(lost)
	if s.poll() != nil {
		if s.poll().answer.Gap == nil {
			s.poll().answer.Gap = e
		}
		return
	}
	s.behindRest(text)
}

// tell tells the client of a mark, if it is affected.
func (s *session) tell(m *mark) {
	lost := s.lossOf(m.reason, m.affects)
	if lost != nil {
		lost.to = m.seq
		s.say(lost)
	}
}

// afterRestart goes on in a new epoch: positions of before mean nothing.
func (s *session) afterRestart() {
	r := &s.loop.restarted
	s.cursor = r.n
	s.start, s.replaying, s.waiting, s.told, s.ahead = nil, false, false, nil, ahead{}
	lost := s.lossOf(gapRecreated, anyTopic)
	if lost != nil { // it may have no channel at all by now
		lost.to = r.seq
	}
	s.seq, s.given, s.first, s.back, s.whole, s.resumed = r.seq, 0, r.seq, 0, r.seq, false
	// What was written since is in the stream, and may not have been sent here.
	s.replayFrom(r.seq)
	s.say(lost)
}

// missed collects the next frames after the session's cursor over all its
// topics, in order, about a chunk of bytes, and tells up to which number they
// are complete. When a ring has moved on, the session is replaying, or, without
// history, there is a loss instead.
func (s *session) missed(dst []*frame, upTo uint64) (frames []*frame, through uint64, lost *loss) {
	for i := range s.subs {
		t := s.subs[i].topic
		first := len(dst)
		t.mu.Lock()
		var more, ok bool
		dst, more, ok = t.ring.after(dst, s.doneUpTo(i, s.cursor), upTo, chunk)
		history := !t.literal || !t.live
		if !ok || history && t.ring.known == 0 {
			if history {
				t.mu.Unlock()
				s.slow = !ok
				s.goBySequence()
				return dst[:0], s.cursor, nil
			}
			if lost == nil {
				lost = &loss{reason: gapSlow}
			}
			lost.add(t)
			s.note(i, t.ring.resumeAt())
			t.mu.Unlock()
			continue
		}
		t.mu.Unlock()
		s.loop.stats.read(fromRing, len(dst)-first)
		if more {
			upTo = min(upTo, dst[len(dst)-1].n)
		}
		dst = s.wanted(dst, first, i)
	}
	if lost != nil {
		return dst[:0], s.cursor, lost
	}
	slices.SortFunc(dst, func(a, b *frame) int { return int(int64(a.n - b.n)) })
	for len(dst) > 0 && dst[len(dst)-1].n > upTo {
		dst = dst[:len(dst)-1]
	}
	return dst, upTo, nil
}

// doneUpTo is the number, from n on, up to which nothing of the i-th subscription is to
// come to a session that goes by numbers: it was told that it is lost, or had it out of
// turn.
func (s *session) doneUpTo(i int, n uint64) uint64 {
	return max(n, s.told[int32(i)], s.liveDone(i))
}

// liveDone is likewise what a session had out of turn, of a channel without history.
func (s *session) liveDone(i int) uint64 {
	if t := s.subs[i].topic; len(s.places) > 0 && t.literal && t.live {
		return s.places[t.subject()].n
	}
	return 0
}

// byNumbers tells whether a session that is behind goes on by numbers from its cursor.
func (s *session) byNumbers() bool { return s.behind && !s.replaying && s.start == nil && !s.early }

// goBySequence makes a session that is behind, and goes by numbers, replay from its
// position.
func (s *session) goBySequence() {
	s.told = nil
	s.replays()
	s.pos = s.seq
	for k := range s.subs {
		x := &s.subs[k]
		s.progress[k].at = max(x.replayed, s.seq)
		if x.topic.literal {
			s.progress[k].at = max(s.progress[k].at, s.places[x.topic.subject()].seq)
		}
	}
}

// note remembers that a loss of the i-th subscription up to a place was told.
func (s *session) note(i int, place uint64) {
	if s.told == nil {
		s.told = map[int32]uint64{}
	}
	s.told[int32(i)] = place
}
