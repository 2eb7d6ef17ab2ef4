package ssenode

import (
	"slices"
	"time"

	"sluice/shared/channel"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// A live session's channels are changed only while it is current: then it has exactly
// what its loop has handled, and one number and one sequence tell what of the new
// channel is before and what after. One that is behind keeps the change until then.
//
// Overlapping subscriptions are never changed: of a channel that one of the session's
// patterns matches, too, the events come as before, whatever is asked for. So which of
// several copies of an event is the first stays as it is.

// mostChanges bounds the changes that wait for one session.
const mostChanges = 64

// order is what one request wants of a client's sessions on one loop.
type order struct {
	clientID string
	bearer   *auth.Bearer // whose they have to be; nil without authentication
	topic    *topic       // to be added, held for the loop; or nil
	subject  string
	// Of what is to be added: the loop must have handled this number; how many channels
	// a session may have, those that come by themselves aside.
	n     uint64
	most  int
	auto  []channel.Pattern
	until int64 // when the token that grants it ends; Unix nanoseconds
	done  func(wire.Changed)
}

// change is one channel to be added or, without a topic, to be taken away.
type change struct {
	topic   *topic
	subject string
}

// carryOut does what was ordered, in its order, as far as the loop has come. It is
// called when everything that is queued was handled: whatever of the topic is not in
// the loop's queue now or later is of before the loop's place.
func (l *loop) carryOut() {
	for len(l.orders) > 0 && l.orders[0].n <= l.n {
		o := l.orders[0]
		l.orders[0] = nil
		l.orders = l.orders[1:]
		r := l.carry(o)
		if o.topic != nil {
			l.hub.release(o.topic, l)
		}
		o.done(r)
	}
	if len(l.orders) == 0 {
		l.orders = nil
	}
}

func (l *loop) carry(o *order) (r wire.Changed) {
	for _, s := range l.clients.of(o.clientID) {
		if s.closed || o.bearer != nil && (s.pass == nil || !s.pass.bearer.SameSubject(*o.bearer)) {
			continue
		}
		var waiting []change
		if s.behind {
			waiting = s.changes
		}
		adds := o.topic != nil && s.adds(o, waiting)
		switch {
		case adds && s.pass != nil && o.bearer != nil && s.pass.until > o.until:
			r.Longer++ // nothing would end the channel with its token
			l.stats.liveRefused[liveLonger].Add(1)
			continue
		case adds && !s.behind && !o.topic.placeKnown():
			r.Late++ // its other channels would wait, too
			l.stats.liveRefused[liveLate].Add(1)
			continue
		case s.behind && len(waiting) >= mostChanges:
			r.Behind++
			l.stats.liveRefused[liveBehind].Add(1)
			continue
		case adds && s.room(o, waiting) <= 0:
			r.Full++
			l.stats.liveRefused[liveFull].Add(1)
			continue
		}
		r.Connections++
		c := change{o.topic, o.subject}
		if c.topic != nil {
			l.hub.joinOne(c.topic, s)
		}
		if s.behind {
			s.changes = append(s.changes, c)
		} else {
			s.change(c)
		}
	}
	return r
}

// adds tells whether the order adds something to what the session has, or will have.
func (s *session) adds(o *order, waiting []change) bool {
	return s.subTo(o.subject) < 0 && !s.matches(o.subject) &&
		!slices.ContainsFunc(waiting, func(c change) bool { return c.subject == o.subject && c.topic != nil })
}

// room is how many channels more the session may have.
func (s *session) room(o *order, waiting []change) int {
	n := o.most
	for i := range s.subs {
		if !s.subs[i].topic.pattern.CoveredBy(o.auto) {
			n--
		}
	}
	for _, c := range waiting {
		if c.topic != nil {
			n--
		}
	}
	if o.topic.pattern.CoveredBy(o.auto) {
		n = max(n, 1)
	}
	return n
}

// subTo is the index of the subscription to a channel, by its name, or -1.
func (s *session) subTo(subject string) int {
	return slices.IndexFunc(s.subs, func(x sub) bool { return x.topic.literal && x.topic.subject() == subject })
}

// matches tells whether one of the session's patterns matches a channel.
func (s *session) matches(subject string) bool {
	return slices.ContainsFunc(s.subs, func(x sub) bool { return !x.topic.literal && x.topic.pattern.MatchSubject(subject) })
}

// change makes a change, or lets it wait. What is so already is left as it is.
func (s *session) change(c change) {
	i := s.subTo(c.subject)
	switch {
	case s.closed:
		s.forget(c)
	case s.behind:
		s.changes = append(s.changes, c)
	case (i >= 0) == (c.topic != nil) || s.matches(c.subject):
		s.forget(c)
	case c.topic != nil:
		s.subscribe(c.topic)
	default:
		s.unsubscribe(i)
	}
}

func (s *session) forget(c change) {
	if c.topic != nil {
		s.loop.hub.leaveOne(c.topic, s)
	}
}

// forgetChanges is for a session that ends.
func (s *session) forgetChanges() {
	if s.lag == nil {
		return
	}
	for _, c := range s.changes {
		s.forget(c)
	}
	s.changes = nil
}

// subscribe adds a channel to a current session, which has joined it. It begins at the
// loop's place: everything up to that sequence was numbered before it, and what comes
// later with a lower one is of before, too (see takes).
//
// No pulse may have been checked since the channel is known here. Then it begins where
// the channel was found to stand in the stream, and no id is given until the pulse: that
// place may be ahead of the loop, and what comes next may be lost. If the place is not
// even known, what follows the loop's is replayed, like what was missed of any topic.
func (s *session) subscribe(t *topic) {
	l, at := s.loop, s.placeNow()
	learned, known, settled := t.placeOn(l)
	vouched := s.vouched() && (settled || !known || learned <= at)
	text := s.changed("subscribed", t, at, vouched)
	i, born := len(s.subs), s.subs[:1][0].born
	s.subs = append(s.subs, sub{topic: t, replayed: max(at, learned)})
	s.subs[0].born = born
	t.on(l).add(s, i)
	s.cut, s.owing, s.ranked = true, s.owing || t.throttles, s.ranked || t.ranks != 0
	if s.first == 0 {
		s.first = at // else see orient
	}
	l.stats.subscribed.Add(1)
	switch {
	case settled:
		s.giveControl(text)
	case known:
		s.unsettle()
		s.giveControl(text)
	default:
		s.unsettle()
		s.beginAnew()
		s.turning = false
		s.rest = text
		s.catchUp()
	}
}

// placeOn tells whether a pulse was checked, as far as the loop has come, since the
// topic is known, or else the sequence at which it stood then. That is not known if the
// topic is not, or if the node is further than the loop by so much that it cannot be told
// any more.
func (t *topic) placeOn(l *loop) (learned uint64, known, settled bool) {
	if n := t.settled.Load(); t.live || n != 0 && n-1 <= l.n {
		return 0, true, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring.known == 0 || t.ring.evicted > l.n {
		return 0, false, false
	}
	return t.ring.from, true, false
}

// placeKnown tells whether the channel's place in the stream was learned.
func (t *topic) placeKnown() bool {
	if t.live {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ring.known != 0
}

// whollyVerified tells whether nothing is missing up to where the session's channels
// begin: so nothing of before can come any more, and it takes what the others take.
func (s *session) whollyVerified() bool {
	return !slices.ContainsFunc(s.subs, func(x sub) bool { return x.replayed > s.loop.verified })
}

// unsubscribe takes the i-th subscription from a current session. The others keep their
// order: see firstOf.
func (s *session) unsubscribe(i int) {
	l, t, born := s.loop, s.subs[i].topic, s.subs[0].born
	text := s.changed("unsubscribed", t, s.placeNow(), s.vouched())
	t.on(l).remove(s, i)
	s.subs = slices.Delete(s.subs, i, i+1)
	s.subs[:1][0].born = born
	s.owing, s.ranked = false, false
	for k := range s.subs {
		x := &s.subs[k]
		x.topic.on(l).clients[x.place].sub = int32(k)
		s.owing, s.ranked = s.owing || x.topic.throttles, s.ranked || x.topic.ranks != 0
	}
	l.hub.leaveOne(t, s)
	l.stats.unsubscribed.Add(1)
	s.giveControl(text)
}

// placeNow is the sequence up to which a current session has everything that its loop
// was given.
func (s *session) placeNow() uint64 {
	return max(s.loop.seq, s.loop.verified, s.seq, s.given)
}

// changedEvent is the data of `event: subscribed` and `event: unsubscribed`.
type changedEvent struct {
	ClientID  string `json:"clientId"`
	Channel   string `json:"channel"`
	Timestamp string `json:"timestamp"`
}

// changed encodes the event that tells of a change. Its id is the place if that is
// vouched for.
func (s *session) changed(name string, t *topic, at uint64, vouched bool) []byte {
	id := wire.ID{Epoch: s.loop.epoch}
	if vouched && s.loop.epoch != "" {
		id.Seq = at
		s.seq, s.given = max(s.seq, at), at
	}
	return appendControl(nil, id, name, changedEvent{
		ClientID: s.clientID, Channel: printable(t.name()), Timestamp: time.Now().UTC().Format(timestamps),
	})
}
