package ssenode

import (
	"time"

	"sluice/shared/wire"
	"sluice/ssenode/engine"
)

// session is one client's stream. Everything but the first group is owned by
// its loop's goroutine.
//
// A session has no queue. It is either current, having been given every frame
// its loop has handled, or behind, and then it has a position (cursor) and at
// most one frame that is partly written (rest).
type session struct {
	// Static once handed to the loop.
	loop     *loop
	sock     engine.Socket
	subs     []sub // channels first, then patterns, as the client named them
	clientID string
	wrap     bool // wants the form of wrap=1
	overlap  bool // some subs match the same channel

	behind  bool   // not current; the sweep passes it over
	closed  bool   // dropped; also behind
	touched bool   // in loop.touched
	turn    int32  // list in loop.sessions
	at      int32  // index in that list
	rest    []byte // of a frame that is begun
	cursor  uint64 // number of the last frame begun, when behind
	seq     uint64 // sequence of the last frame with history, when behind
	since   int64  // when it last took something, when behind; Unix nanoseconds
	dirty   []int32
	told    map[int32]uint64 // by sub: the loss up to this number was told, when behind
}

// sub is a session's subscription to one topic.
type sub struct {
	topic *topic
	place int32 // in the topic's local list
}

func (s *session) bytesOf(f *frame) []byte {
	if !s.wrap {
		return f.plain
	}
	if f.wrapped != nil {
		return f.wrapped
	}
	return f.wrapLate()
}

// takes tells whether a frame that came on the i-th subscription is the copy
// this session wants: that of the first of its subscriptions that matches.
func (s *session) takes(i int, f *frame) bool {
	if !s.overlap {
		return true
	}
	for _, before := range s.subs[:i] {
		if before.topic.pattern.MatchSubject(f.subject) {
			return false
		}
	}
	return true
}

// give writes the joined bytes of frames to a current session.
func (s *session) give(buf []byte, frames []*frame) {
	n, err := s.sock.Write(buf)
	if err != nil {
		s.loop.drop(s, clientGone, err)
		return
	}
	s.loop.stats.out(len(frames), n)
	if n == len(buf) {
		return
	}
	s.fallBehind()
	s.cutAt(frames, n)
}

// giveControl writes bytes that belong to no channel to a current session. The
// bytes must not change afterwards.
func (s *session) giveControl(b []byte) {
	n, err := s.sock.Write(b)
	if err != nil {
		s.loop.drop(s, clientGone, err)
		return
	}
	if n < len(b) {
		s.fallBehind()
		s.cursor = s.loop.n
		if n > 0 {
			s.rest = b[n:]
		}
	}
}

func (s *session) fallBehind() {
	s.behind = true
	s.since = time.Now().UnixNano()
	s.seq = s.loop.seq
	s.loop.behind[s] = struct{}{}
}

// cutAt notes that of the joined frames only n bytes were taken. The rest is
// kept as part of its frame, not of the joined buffer: that is reused, and a
// frame is shared with all other clients and the ring.
func (s *session) cutAt(frames []*frame, n int) {
	for _, f := range frames {
		b := s.bytesOf(f)
		if n < len(b) {
			if n > 0 {
				s.rest, s.cursor = b[n:], f.n
				s.passed(f)
			} else {
				s.cursor = f.n - 1
			}
			return
		}
		n -= len(b)
		s.passed(f)
	}
}

func (s *session) passed(f *frame) {
	if f.seq != 0 {
		s.seq = f.seq
	}
}

// Writable is called by the engine when the socket can take more.
func (s *session) Writable() {
	if s.behind && !s.closed {
		s.since = time.Now().UnixNano()
		s.catchUp()
	}
}

// Gone is called by the engine when the client has left.
func (s *session) Gone(cause error) { s.loop.drop(s, clientGone, cause) }

// position is the id of the last event the session was given, zero if none.
func (s *session) position() wire.ID {
	if s.seq == 0 {
		return wire.ID{}
	}
	return wire.ID{Epoch: s.loop.epoch(), Seq: s.seq}
}
