package ssenode

import (
	"errors"
	"math"
	"slices"
	"time"

	"sluice/shared/wire"
	"sluice/ssenode/engine"
)

// session is one client's stream. Everything but the first group is owned by
// its loop's goroutine.
//
// A session has no queue. It is either current, having been given every frame
// its loop has handled, or behind, and only then it has a position (see lag).
type session struct {
	// Static once handed to the loop.
	loop     *loop
	sock     engine.Socket // or a poll's *collector
	pass     *pass         // for whom it is there, and for how long; nil: nobody, for ever
	subs     []sub         // channels first, then patterns, as the client named them
	clientID string
	wrap     bool // wants the form of wrap=1
	overlap  bool // some subs match the same channel
	owing    bool // throttle= may hold back an event while newer ones, or positions, are given

	behind    bool // not current; the sweep passes it over
	closed    bool // dropped; also behind
	unsettled bool // no pulse was checked since a topic was subscribed: no ids
	resumed   bool // it came with an id, which is first; or with one that was doubted
	replaying bool // goes by seq
	waiting   bool // for a stretch of history
	cut       bool // a channel was added to it: of that it takes only what came later
	ranked    bool // some subs are, or may be, of high or low channels
	// overtaking: what is being written goes before its turn.
	overtaking bool
	turn       int32
	at         int32  // index in that list of loop.sessions
	touch      int32  // one more than its index in loop.touched, else 0
	seq        uint64 // nothing up to this sequence is owed
	first      uint64 // sequence up to which nothing is missing when it came
	given      uint64 // sequence of the last id given
	*lag              // nil when current
}

// lag is what a session needs only while it is behind; most never are for long,
// and so cost half of what they would.
//
// There is a position and at most one piece of bytes that is partly written. The
// position is a number in the node's order (cursor) for as long as the rings reach
// back to it; else, and for a client that comes back with an id, it is a sequence of
// the stream (pos), and the session is replaying: everything that was given out up
// to its cursor comes by sequences, what was given out later by numbers.
type lag struct {
	rest     []byte           // of what is begun
	next     []*frame         // to be written after it, without ids; none if there is no rest
	cursor   uint64           // number of the last frame begun
	pos      uint64           // sequence given or passed over in a replay, else 0
	progress []progress       // of a replay, by sub
	until    uint64           // number that the loop must have handled before it goes on, when early
	back     uint64           // sequence that the client came back with
	whole    uint64           // everything up to this sequence comes before what follows the cursor
	since    int64            // when it last took something; Unix nanoseconds
	weighed  int64            // when it was last looked at what could skip, likewise
	full     int64            // since when its socket is too full for it to be current, likewise; 0: it is not
	start    *start           // what is to be done before anything else; nil once done
	owes     bool             // going by numbers: after the cursor something lower may come
	told     map[int32]uint64 // by sub: the loss up to this place was told
	changes  []change         // of its channels, to be made once it is current
	early    bool             // in loop.early
	slow     bool             // replaying because it was too slow
	turning  bool             // from current to replaying, in loop.relearn
	ahead                     // what was done out of turn
}

// progress is how far a replay has come on one subscription.
type progress struct {
	at uint64 // the sequence up to which it has given what there is
	// given is, of a pattern that was learned anew, what the client has of some
	// subjects.
	given []given
}

// given is that everything up to the tail of each of these subjects, but at most up to
// a sequence, was given to a client. Many clients share the tails.
type given struct {
	tails map[string]uint64
	upTo  uint64
}

// maxGiven is how many of these are kept apart.
const maxGiven = 4

// has notes what the client has of some subjects.
func (x *progress) has(tails map[string]uint64, upTo uint64) {
	if len(tails) == 0 {
		return
	}
	if len(x.given) == maxGiven {
		one := map[string]uint64{}
		for _, g := range x.given {
			for subject, last := range g.tails {
				one[subject] = max(one[subject], min(last, g.upTo))
			}
		}
		x.given = append(x.given[:0], given{one, math.MaxUint64})
	}
	x.given = append(x.given, given{tails, upTo})
}

// had tells whether the client was given the frame before.
func (x *progress) had(f *frame) bool {
	for _, g := range x.given {
		if f.seq <= min(g.tails[f.subject], g.upTo) {
			return true
		}
	}
	return false
}

// sub is a session's subscription to one topic.
type sub struct {
	topic *topic
	place int32 // in the topic's local list
	// born is, of the first, when the client came, in ticks since the loop was made. It
	// stands in a hole, and the first one's place is there also when it is not.
	born uint32
	// replayed is the sequence up to which the client has everything of the
	// topic, by its id, by the stream, or, of a channel, without an id: frames up to
	// it are not new to it, whenever they come.
	replayed uint64
}

// poll is what takes the place of a client's socket in a poll, else nil.
func (s *session) poll() *collector {
	c, _ := s.sock.(*collector)
	return c
}

// vouched tells whether frames may carry their ids: nothing lower is owed.
func (s *session) vouched() bool { return !s.unsettled && !s.holdsBack() }

// holdsBack tells whether throttle= holds back something for the session, or did
// so up to somewhere before the session's position.
func (s *session) holdsBack() bool {
	if !s.owing {
		return false
	}
	if s.lag != nil && s.lag.owes {
		return true
	}
	for i := range s.subs {
		if s.subs[i].topic.byLoop[s.loop.index].local.owed > 0 {
			return true
		}
	}
	return false
}

func (s *session) bytesOf(f *frame) []byte {
	b := f.plain
	if s.wrap {
		if b = f.wrapped; b == nil {
			b = f.wrapLate()
		}
	}
	if !s.vouches(f) {
		return b[f.idLen:]
	}
	return b
}

// vouches tells whether a frame may carry its id. A replay gives what it gives in
// one order, also to a session that is not settled; but history can be ahead of
// the node, of which something lower is still to come then.
func (s *session) vouches(f *frame) bool {
	if s.replaying {
		return s.given <= f.seq && f.seq <= s.whole && !s.holdsBack() && !s.overtaking
	}
	return s.vouched() && !s.overtaking
}

// takes tells whether a frame that came on the i-th subscription is one that
// this session wants: new to it, for clients like it, and the copy of the first of its
// subscriptions that matches.
func (s *session) takes(i int, f *frame) bool {
	return s.fits(f) && (f.seq == 0 || f.seq > s.subs[i].replayed) && (!s.overlap || s.firstOf(i, f))
}

// fits tells whether the frame's criteria hold for the client.
func (s *session) fits(f *frame) bool { return f.criteria == nil || s.pass.matches(*f.criteria) }

// firstOf tells whether no subscription before the i-th matches.
func (s *session) firstOf(i int, f *frame) bool {
	for _, before := range s.subs[:i] {
		if before.topic.pattern.MatchSubject(f.subject) {
			return false
		}
	}
	return true
}

// wanted leaves out of dst[first:], which came on the i-th subscription, what
// the session does not take, or has had out of turn.
func (s *session) wanted(dst []*frame, first, i int) []*frame {
	return append(dst[:first], slices.DeleteFunc(dst[first:], func(f *frame) bool { return !s.takes(i, f) || s.done(f) })...)
}

// fresh leaves out of dst[first:], which a replay found on the i-th subscription, what
// is for others, comes on another one, too, or was given before: out of turn, or before
// the topic was learned anew.
func (s *session) fresh(dst []*frame, first, i int) []*frame {
	x := &s.progress[i]
	return append(dst[:first], slices.DeleteFunc(dst[first:], func(f *frame) bool {
		return !s.fits(f) || s.overlap && !s.firstOf(i, f) || x.had(f) || s.done(f)
	})...)
}

// give writes the joined bytes of frames to a current session.
func (s *session) give(buf []byte, frames []*frame) {
	if s.poll() != nil {
		s.poll().take(frames, s)
		s.passed(frames)
		s.loop.polls = append(s.loop.polls, s)
		return
	}
	n, err := s.sock.Write(buf)
	if err != nil {
		s.loop.drop(s, clientGone, err)
		return
	}
	s.loop.stats.out(len(frames), n)
	if n == len(buf) {
		s.passed(frames)
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
	s.loop.stats.out(0, n)
	if n < len(b) {
		s.fallBehind()
		s.cursor, s.full = s.loop.n, s.since
		s.rest = b[n:] // also if nothing was taken: it may tell of a gap, or of a channel
	}
}

// fallBehind makes a current session one that is behind, at no position yet.
func (s *session) fallBehind() {
	if s.vouched() {
		s.seq = max(s.seq, s.loop.verified)
	}
	s.behind, s.lag = true, &lag{whole: s.seq, since: time.Now().UnixNano()}
	s.loop.behind[s] = struct{}{}
}

// replays makes a session that is behind replay.
func (s *session) replays() {
	s.replaying, s.owes = true, false
	if s.progress == nil {
		s.progress = make([]progress, len(s.subs))
	}
}

// cutAt notes that of the joined frames only n bytes were taken. The rest is
// kept as part of its frame, not of the joined buffer: that is reused, and a
// frame is shared with all other clients and the ring.
func (s *session) cutAt(frames []*frame, n int) {
	s.noteFull()
	for i, f := range frames {
		b := s.bytesOf(f)
		if n < len(b) {
			if n > 0 {
				s.rest = b[n:]
				s.wrote(frames[:i+1])
			} else {
				s.wrote(frames[:i])
			}
			if s.replaying || s.overtaking {
				return
			}
			if s.cursor = f.n; n == 0 {
				s.cursor--
			}
			return
		}
		n -= len(b)
	}
}

// wrote notes that the frames were written, in their turn or not.
func (s *session) wrote(frames []*frame) {
	if s.overtaking {
		s.overtook(frames)
		return
	}
	s.passed(frames)
}

// passed notes the position after the frames.
func (s *session) passed(frames []*frame) {
	if s.unsettled && !s.replaying {
		s.noteGiven(frames)
	}
	for i := len(frames) - 1; i >= 0; i-- {
		f := frames[i]
		if f.seq == 0 {
			continue
		}
		if s.replaying {
			s.pos = max(s.pos, f.seq)
		}
		if f.idLen > 0 && s.vouches(f) {
			s.given = max(s.given, f.seq)
			s.seq = max(s.seq, f.seq)
			return
		}
		if !s.replaying {
			return
		}
	}
}

// noteGiven notes how far a client without a position has come on each channel: should it
// be too slow for the rings it is brought forward from before all of them, and must not
// get anything twice. Of a pattern something lower may be to come.
func (s *session) noteGiven(frames []*frame) {
	for _, f := range frames {
		for i := range s.subs {
			if x := &s.subs[i]; x.topic.literal && f.seq > x.replayed && x.topic.subject() == f.subject {
				x.replayed = f.seq
			}
		}
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
func (s *session) Gone(cause error) {
	r := clientGone
	if errors.Is(cause, engine.ErrFlood) {
		r = limit
	}
	s.loop.drop(s, r, cause)
}

// fetched is called when a stretch that the session waited for is there.
func (s *session) fetched() {
	if s.waiting && !s.closed {
		s.waiting, s.weighed = false, 0
		s.excuse()
		s.catchUp()
	}
}

// beat sends a heartbeat. It moves the position of a page that hears nothing, so
// that it does not fall out of a short history.
func (s *session) beat(text []byte) {
	if !s.advances() {
		if len(text) > 0 {
			s.giveControl(text)
		}
		return
	}
	b := make([]byte, 0, len(text)+64)
	if len(text) > 0 {
		b = append(b, text[:len(text)-1]...) // the id is of the same block
	}
	s.giveControl(s.position(b))
}

// advances tells whether there is a newer position to be given than the last.
func (s *session) advances() bool {
	return s.loop.verified > s.given && s.vouched() && s.loop.epoch != ""
}

// position appends a block with nothing but the newest position.
func (s *session) position(b []byte) []byte {
	verified := s.loop.verified
	s.seq, s.given = max(s.seq, verified), verified
	return append(appendID(b, wire.ID{Epoch: s.loop.epoch, Seq: verified}), '\n')
}
