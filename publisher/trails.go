package publisher

import (
	"slices"
	"time"

	"sluice/shared/wire"
)

const (
	// trailSoon is how long a message may be on its way from hop to hop before it is
	// told without what has not come, and trailLate if that is from Redis to the stream.
	trailSoon = 2 * time.Second
	trailLate = 4 * time.Second
	// mostTrails bounds the messages on their way, and the reports that wait for one.
	mostTrails = 1000
)

// trail is what is known of one message on its way.
type trail struct {
	number int // from 1
	began  time.Time
	hash   string
	size   int
	data   []byte    // as much as is to be shown
	redis  time.Time // when Redis delivered it; zero: it did not yet
	stream streamed
	nodes  []wire.Tapped // one of each node, by their names
	blind  bool          // the stream was not to be asked for it
}

// streamed is a message as it came on the live subject.
type streamed struct {
	live   time.Time // when it came; zero: it did not
	seq    uint64    // 0 without history
	stored time.Time // by the stream's clock
	// found says that it was never heard, but is in the stream.
	found bool
}

func (s streamed) is() bool { return !s.live.IsZero() || s.found }

// trails follow the messages of one channel. Nothing is in a message that would name it
// at every hop: Redis and NATS keep the order of a channel, so of those with the same
// payload the first at one hop is the first at the next.
type trails struct {
	show int // bytes of payloads
	// watching are the nodes that have clients of the channel, by name.
	watching map[string]int
	// since is when all was subscribed. What began before, or a moment after, and was
	// not seen in Redis, was published before.
	since time.Time
	// closed: what is on its way is followed to its end, and nothing else.
	closed bool

	next  int
	open  []*trail // in the order in which they were first heard of
	early []wire.Tapped
	lost  int // messages that could not be followed, for there were too many
}

// add begins a trail, nil if there are too many or it is late.
func (x *trails) add(hash string, payload []byte, now time.Time) *trail {
	if x.closed {
		return nil
	}
	if len(x.open) == mostTrails {
		x.lost++
		return nil
	}
	t := &trail{began: now, hash: hash, size: len(payload), data: slices.Clone(payload[:min(len(payload), x.show)])}
	x.open = append(x.open, t)
	return t
}

// first is the first trail of a payload for which is tells so.
func (x *trails) first(hash string, is func(*trail) bool) *trail {
	for _, t := range x.open {
		if t.hash == hash && is(t) {
			return t
		}
	}
	return nil
}

// redis notes that Redis has delivered a message.
func (x *trails) redis(payload []byte, at time.Time) {
	hash := wire.TapHash(payload)
	t := x.first(hash, func(t *trail) bool { return t.redis.IsZero() })
	if t == nil {
		t = x.add(hash, payload, at)
	}
	if t != nil {
		t.redis = at
	}
}

// live notes that a message was heard on the live subject.
func (x *trails) live(payload []byte, s streamed) {
	hash := wire.TapHash(payload)
	t := x.first(hash, func(t *trail) bool { return !t.stream.is() })
	if t == nil {
		t = x.add(hash, payload, s.live)
	}
	if t == nil {
		return
	}
	t.stream = s
	x.early = slices.DeleteFunc(x.early, func(r wire.Tapped) bool { return x.told(r) })
}

// node notes what a node tells.
func (x *trails) node(r wire.Tapped) {
	x.lost += r.Missed
	if !x.told(r) && len(x.early) < mostTrails {
		x.early = append(x.early, r)
	}
}

// told gives a report to its trail; false if there is none yet.
func (x *trails) told(r wire.Tapped) bool {
	has := func(t *trail) bool {
		return slices.ContainsFunc(t.nodes, func(have wire.Tapped) bool { return have.Node == r.Node })
	}
	is := func(t *trail) bool { return t.stream.is() && t.stream.seq == r.Seq }
	t := x.first(r.Hash, func(t *trail) bool { return is(t) && (r.Seq != 0 || !has(t)) })
	if t == nil && r.Seq == 0 {
		t = x.first(r.Hash, is) // by another of the node's subscriptions
	}
	if t == nil {
		return false
	}
	for i := range t.nodes {
		// A channel, and each pattern that matches, brings a copy; they have different
		// clients.
		if have := &t.nodes[i]; have.Node == r.Node {
			have.At, have.Out = min(have.At, r.At), max(have.Out, r.Out)
			have.Given, have.Behind, have.Others, have.More = have.Given+r.Given, have.Behind+r.Behind, have.Others+r.Others, have.More+r.More
			have.Held = have.Held && r.Held
			return true
		}
	}
	t.nodes = append(t.nodes, r)
	slices.SortFunc(t.nodes, func(a, b wire.Tapped) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return true
}

// complete tells whether a message has come wherever it is waited for: on a node to as
// many clients as it has, which its subscriptions tell one by one.
func (x *trails) complete(t *trail) bool {
	if t.redis.IsZero() || !t.stream.is() {
		return false
	}
	for name, clients := range x.watching {
		if !slices.ContainsFunc(t.nodes, func(r wire.Tapped) bool {
			return r.Node == name && (r.Held || r.Given+r.Behind+r.Others+r.More >= clients)
		}) {
			return false
		}
	}
	return true
}

// done takes out the trails that can be told, in their order: those that are complete,
// or for which it is too late.
func (x *trails) done(now time.Time) (list []*trail) {
	for len(x.open) > 0 {
		t := x.open[0]
		late := trailSoon
		if !t.stream.is() {
			late = trailLate
		}
		if !x.complete(t) && now.Sub(t.began) < late {
			break
		}
		x.open[0] = nil
		x.open = x.open[1:]
		if t.redis.IsZero() && t.began.Sub(x.since) < trailSoon/4 {
			continue // of before
		}
		x.next++
		t.number = x.next
		list = append(list, t)
	}
	return list
}
