package ssenode

import "slices"

// What a loop is told by the dispatcher beside frames, in their order: that
// nothing up to a pulse is missing, where something was lost, that the stream
// began anew.

// settled tells whether a pulse was checked since the places of all topics were
// learned.
func (s *session) settled() bool {
	for i := range s.subs {
		// The dispatcher may be ahead of the loop.
		if n := s.subs[i].topic.settled.Load(); n == 0 || n-1 > s.loop.n {
			return false
		}
	}
	return true
}

// owesOld tells whether a session that begins may still get something lower than
// what it is given before: messages of a topic that came while its place in the
// stream was being learned, or what throttle= held back.
func (s *session) owesOld() bool {
	for i := range s.subs {
		t := s.subs[i].topic
		t.mu.Lock()
		owes := t.ring.known == 0 || t.ring.oldAfter(s.cursor)
		t.mu.Unlock()
		if owes {
			return true
		}
	}
	return false
}

// verify notes that nothing up to the sequence is missing; frames had come to
// the number n then.
func (l *loop) verify(seq, n uint64) {
	l.verified, l.n = seq, max(l.n, n)
	left := l.fresh[:0]
	for _, s := range l.fresh {
		switch {
		case s.closed:
		case !s.behind && s.settled():
			// Not while it is behind: something of a topic that is new here may
			// still come after something higher of another.
			s.unsettled = false
			s.beat(nil) // its first position
			s.polled()
		default:
			left = append(left, s)
		}
	}
	clear(l.fresh[len(left):])
	l.fresh = left
	for s := range l.behind {
		if s.replaying && !s.waiting && len(s.rest) == 0 && !s.closed {
			s.catchUp()
		}
	}
}

// unsettle withholds ids until a later pulse.
func (l *loop) unsettle() {
	l.fresh = l.fresh[:0]
	for _, list := range l.sessions.lists {
		for _, s := range list {
			s.unsettled = true
			l.fresh = append(l.fresh, s)
		}
	}
}

// withhold withholds ids, also from who comes now, until it is called again and a later
// pulse has been checked.
func (l *loop) withhold(on bool) {
	if l.withholds = on; on {
		l.unsettle()
	}
}

// mark tells all sessions that it concerns.
func (l *loop) mark(m *mark) {
	l.n = m.n
	if m.seq != 0 {
		l.seq = max(l.seq, m.seq)
	}
	if l.told = append(l.told, m); len(l.told) > maxTold {
		l.forgotten = l.told[0].n
		l.told = slices.Delete(l.told, 0, 1)
	}
	for _, list := range l.sessions.lists {
		for _, s := range list {
			if s.behind {
				continue
			}
			if lost := s.lossOf(m.reason, m.affects); lost != nil {
				lost.to = m.seq
				if s.vouched() {
					s.seq = max(s.seq, m.seq)
				}
				e, text := s.gap(lost)
				if s.poll() != nil {
					s.poll().answer.Gap = e
					l.polls = append(l.polls, s)
				}
				s.giveControl(text)
			}
		}
	}
}

// maxTold bounds the marks kept for sessions that are behind, or have joined
// their topics and not the loop yet.
const maxTold = 256

// nextMark is the first mark numbered above n that the session is to be told of.
func (l *loop) nextMark(s *session, n uint64) *mark {
	for _, m := range l.told {
		if m.n > n && s.lossOf("", m.affects) != nil {
			return m
		}
	}
	return nil
}

// found lets sessions begin that came before the stream was found.
func (l *loop) found(epoch string, head uint64) {
	l.epoch, l.verified = epoch, head
	for s := range l.behind {
		if s.start != nil && len(s.rest) == 0 && !s.closed {
			s.catchUp()
		}
	}
}

// restart tells all sessions that the stream began anew, with the pulse at first.
func (l *loop) restart(m *mark, epoch string, head, first uint64) {
	l.n, l.seq, l.epoch, l.verified, l.told = m.n, head, epoch, head, nil
	l.restarted.n, l.restarted.seq = m.n, first
	l.unsettle()
	for _, list := range l.sessions.lists {
		for _, s := range list {
			if s.closed {
				continue
			}
			if s.behind {
				s.waiting = false
				if len(s.rest) == 0 {
					s.catchUp()
				}
				continue
			}
			s.fallBehind() // and so before the restart
			s.catchUp()
		}
	}
}
