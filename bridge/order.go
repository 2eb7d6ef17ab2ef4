package bridge

import (
	"strconv"
	"strings"
	"time"
)

// order tells where in Redis' order a message stands. All subscribers of one Redis
// server get one and the same order. So when the leader publishes a nonce on
// `sluice:mark`, which all bridges get in their stream of messages, then "the third
// one after that nonce" names one message to all of them, whatever its payload. The
// bridge that writes says so in the stream; one that takes over goes on from there.
//
// Counted is what the plan takes, before anything is refused or dropped. It is
// guarded by its queue's lock.
type order struct {
	count   uint64             // messages since the bridge began
	anchors map[string]*anchor // by nonce: those that came over the present link
	recent  []string           // nonces by age, to forget the oldest
}

// anchor is a nonce and its place in the order.
type anchor struct {
	nonce string
	at    uint64    // messages before it
	sent  time.Time // by this bridge; zero if another one has
}

// maxAnchors bounds the nonces remembered. At one a second it is how long a leader
// may be behind Redis for a standby still to know its place.
const maxAnchors = 1000

// add notes a nonce and returns its anchor. One that came before names no place: it
// returns nil, and what was said relative to the first is not understood any more.
func (o *order) add(nonce string) *anchor {
	if _, twice := o.anchors[nonce]; twice {
		o.anchors[nonce] = nil
		return nil
	}
	if o.anchors == nil {
		o.anchors = map[string]*anchor{}
	}
	if len(o.recent) == maxAnchors {
		delete(o.anchors, o.recent[0])
		o.recent = o.recent[1:]
	}
	a := &anchor{nonce: nonce, at: o.count}
	o.anchors[nonce] = a
	o.recent = append(o.recent, nonce)
	return a
}

// broken forgets all nonces: what came between them and now is not known.
func (o *order) broken() { o.anchors, o.recent = nil, nil }

// find returns the number that the message at the position has here, and the anchor
// of the position.
func (o *order) find(p string) (at uint64, a *anchor) {
	nonce, digits, _ := strings.Cut(p, "+")
	n, err := strconv.ParseUint(digits, 10, 64)
	if a = o.anchors[nonce]; err != nil || a == nil {
		return 0, nil
	}
	return a.at + n, a
}

// position is a message's place in Redis' order.
type position struct {
	anchor *anchor // nil: not known
	at     uint64
}

// append writes the position as it stands in the stream, `<nonce>+<messages since>`,
// or nothing if it is not known.
func (p position) append(dst []byte) []byte {
	if p.anchor == nil {
		return dst
	}
	dst = append(dst, p.anchor.nonce...)
	dst = append(dst, '+')
	return strconv.AppendUint(dst, p.at-p.anchor.at, 10)
}

func (p position) text() string { return string(p.append(nil)) }
