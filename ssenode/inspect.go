package ssenode

import (
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// What an operator can ask of streams, see debug.go. The loops are asked, as for
// presence: nothing is kept in a session for it.

// countAtMost is how many frames in rings are looked at for one answer of a loop, to
// tell how far its clients are behind: about a millisecond.
const countAtMost = 50_000

// askedToInspect answers for the streams and polls of this node.
func (n *Node) askedToInspect(body json.RawMessage, answer func(any)) error {
	var q wire.Inspect
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	x, err := n.newInspection(&q)
	if err != nil {
		return err
	}
	if !q.Clients {
		answer(x.end(wire.Inspected{}))
		return nil
	}
	var mu sync.Mutex // guards the following fields
	var sum wire.Inspected
	left := len(n.loops)
	for _, l := range n.loops {
		l.ask(func() {
			one := l.inspect(x)
			mu.Lock()
			defer mu.Unlock()
			sum.Count, sum.Cut = sum.Count+one.Count, sum.Cut || one.Cut
			sum.Clients = append(sum.Clients, one.Clients...)
			if left--; left > 0 {
				return
			}
			if len(sum.Clients) > x.Most {
				sum.Clients, sum.Cut = sum.Clients[:x.Most], true
			}
			answer(x.end(sum))
		})
	}
	return nil
}

// inspection is one question in work; nothing in it changes.
type inspection struct {
	*wire.Inspect
	node     string
	bearer   auth.Bearer // with that subject
	topics   []*topic    // that have events of the channel
	criteria event.Criteria
	diary    *diary
	room     int // bytes, for each loop and for what is remembered
}

var errInspect = errors.New("want one of clientId, sub and channel")

func (n *Node) newInspection(q *wire.Inspect) (*inspection, error) {
	if q.ClientID != "" && q.Subject != "" || q.Clients && q.ClientID == "" && q.Subject == "" && q.Channel == "" {
		return nil, errInspect
	}
	x := &inspection{Inspect: q, node: n.cfg.SSENode.Name, diary: &n.stats.diary, room: n.answerRoom() / (len(n.loops) + 3)}
	q.Most = min(max(q.Most, 0), wire.MostListed)
	if q.Subject != "" {
		x.bearer = n.guard.Bearer(&auth.Identity{Subject: q.Subject})
	}
	if q.Channel != "" {
		if _, err := channel.FromSubject(q.Channel); err != nil {
			return nil, err
		}
		if q.ClientID == "" && q.Subject == "" {
			x.topics = n.hub.matching(q.Channel)
		}
	}
	if q.Message != nil && q.Message.Criteria != nil {
		var err error
		if x.criteria, err = event.ParseCriteria(q.Message.Criteria); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// roomFor takes from the room what a value needs; false if there is not so much.
func roomFor(v any, room *int) bool {
	size := sizeOf(v)
	if size > *room {
		return false
	}
	*room -= size
	return true
}

// end adds what the node remembers.
func (x *inspection) end(sum wire.Inspected) wire.Inspected {
	if !x.Closes {
		return sum
	}
	var cut [3]bool
	sum.Closes, cut[0], sum.ClosesSince = recall(x, &x.diary.closes, func(n *closeNote) bool { return n.is(x.Inspect, x.bearer) }, (*closeNote).told)
	sum.Losses, cut[1], sum.LossesSince = recall(x, &x.diary.losses, func(n *lossNote) bool { return n.is(x.Inspect, x.bearer) }, (*lossNote).told)
	sum.Refusals, cut[2], sum.RefusalsSince = recall(x, &x.diary.refusals, func(n *refusalNote) bool { return n.is(x.Inspect) }, (*refusalNote).told)
	sum.Cut = sum.Cut || cut[0] || cut[1] || cut[2]
	return sum
}

// recall returns what is told of the notes that are asked for, the newest first, as much
// as there is room for; whether there are others; and since when there are all.
func recall[N, T any](x *inspection, from *notes[N], is func(*N) bool, told func(*N, *inspection) T) (list []T, cut bool, since time.Time) {
	found, cut, since := from.newest(is, x.Most)
	room := x.room
	for i := range found {
		one := told(&found[i], x)
		if !roomFor(one, &room) {
			cut = true
			break
		}
		list = append(list, one)
	}
	return list, cut, since.UTC()
}

// inspect tells of the loop's sessions that are asked for.
func (l *loop) inspect(x *inspection) (r wire.Inspected) {
	l.bury() // else some of them are gone
	budget, room := countAtMost, x.room
	one := func(s *session) {
		if s.closed {
			return
		}
		r.Count++
		if len(r.Clients) == x.Most || room <= 0 {
			r.Cut = true
			return
		}
		c := s.inspected(x, &budget)
		if !roomFor(c, &room) {
			r.Cut, room = true, 0
			return
		}
		r.Clients = append(r.Clients, c)
	}
	if x.ClientID == "" && x.Subject == "" {
		for _, t := range x.topics {
			lt := t.byLoop[l.index].local
			if lt == nil {
				continue
			}
			for _, c := range lt.clients {
				if !c.overlap || c.session.firstFor(int(c.sub), x.Channel) {
					one(c.session)
				}
			}
		}
		return r
	}
	if x.ClientID != "" {
		for _, s := range l.clients.of(x.ClientID) {
			one(s)
		}
		if l.stats.polls.Load() == 0 {
			return r
		}
	}
	// A question is rare: for it nothing is kept of polls, and of subjects.
	for _, list := range l.sessions.lists {
		for _, s := range list {
			switch {
			case x.ClientID != "" && s.poll() != nil && s.clientID == x.ClientID:
				one(s)
			case x.Subject != "" && s.pass != nil && x.bearer.HasSubject() && s.pass.bearer.SameSubject(x.bearer):
				one(s)
			}
		}
	}
	return r
}

// inspected is what there is to say of a session.
func (s *session) inspected(x *inspection, budget *int) wire.InspectedClient {
	l := s.loop
	c := wire.InspectedClient{
		Node: x.node, ClientID: s.clientID, Subject: s.subject(), Kind: "sse", Wrap: s.wrap,
		ConnectedAt: s.born().UTC().Format(time.RFC3339), Status: s.status(),
		Began: idText(l.epoch, s.first), LastID: idText(l.epoch, s.given), Unsettled: s.unsettled,
		Channels: []wire.InspectChannel{}, Patterns: []wire.InspectChannel{},
	}
	if s.poll() != nil {
		c.Kind = "poll"
	}
	if s.behind {
		c.Behind = s.inspectedLag()
	}
	for i := range s.subs {
		ch := s.inspectedSub(i, c.Behind, budget)
		if s.subs[i].topic.literal {
			c.Channels = append(c.Channels, ch)
		} else {
			c.Patterns = append(c.Patterns, ch)
		}
	}
	if p := s.pass; p != nil {
		c.Attributes = p.attributes.List(x.Attributes)
		if p.ends() {
			until := time.Unix(0, p.until).UTC().Format(time.RFC3339)
			c.TokenUntil = &until
		}
	}
	if x.Message != nil {
		why := s.why(x)
		c.Why = &why
	}
	return c
}

// inspectedLag tells of a session that is behind, but for what it is behind with.
func (s *session) inspectedLag() *wire.InspectBehind {
	now := time.Now()
	b := &wire.InspectBehind{Why: "catching-up", Silent: tenths(now.Sub(time.Unix(0, s.since))), Begun: s.begunBytes(), Position: idText(s.loop.epoch, max(s.seq, s.pos))}
	switch {
	case s.full != 0:
		b.Why, b.Seconds = "socket-full", tenths(now.Sub(time.Unix(0, s.full)))
	case s.waiting:
		b.Why = "waiting-for-history"
	case s.start != nil || s.early:
		b.Why = "beginning"
	case s.replaying:
		b.Why = "replaying"
	}
	return b
}

// tenths is a time in seconds, to the tenth.
func tenths(d time.Duration) float64 { return math.Round(max(0, d.Seconds())*10) / 10 }

// begunBytes are of what is begun, of a session that is behind.
func (s *session) begunBytes() int {
	n := len(s.rest)
	for _, f := range s.next {
		n += len(f.plain) - f.idLen
	}
	return n
}

func (s *session) inspectedSub(i int, b *wire.InspectBehind, budget *int) wire.InspectChannel {
	t := s.subs[i].topic
	c := wire.InspectChannel{Name: printable(t.name()), History: !t.live, Held: t.on(s.loop).owed}
	if r := t.route; r != nil {
		if r.Priority != route.Normal {
			c.Priority = r.Priority.String()
		}
		if r.Throttle > 0 {
			c.Throttle = r.Throttle.String()
		}
	} else if t.throttles {
		c.Throttle = "some"
	}
	if b == nil {
		return c
	}
	bytes, more := int64(0), false
	if c.Owed, bytes, more = s.owedOf(i, budget); more {
		c.Stream, b.More = true, true
	}
	if t.literal {
		_, c.Aside = s.places[t.subject()]
	}
	b.Events, b.Bytes = b.Events+c.Owed, b.Bytes+bytes
	return c
}

// owedOf counts what of the i-th subscription is in memory that the session, which is
// behind, has yet to get; more tells that there is, or may be, something else. It looks
// at as many frames as the budget has.
func (s *session) owedOf(i int, budget *int) (events int, bytes int64, more bool) {
	t := s.subs[i].topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring.known == 0 && !(t.literal && t.live) {
		return 0, 0, true
	}
	at, numbers := uint64(math.MaxUint64), s.doneUpTo(i, s.cursor)
	switch {
	case s.start != nil && s.start.id != "":
		more = true // what came before is in the stream
	case s.replaying && s.progress != nil:
		at = s.progress[i].at
		more = at < t.ring.from && !(t.literal && t.live)
	default:
		more = t.ring.evicted > numbers
	}
	for k := int(t.ring.len) - 1; k >= 0; k-- {
		f := t.ring.at(k)
		if f.n <= numbers && f.key <= at {
			break // what is before is older, by both
		}
		if *budget--; *budget < 0 {
			return events, bytes, true
		}
		if (f.n > numbers || f.seq > at) && s.takes(i, f) && !s.done(f) {
			events++
			bytes += int64(len(f.plain))
		}
	}
	return events, bytes, more
}
