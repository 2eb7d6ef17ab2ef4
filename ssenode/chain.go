package ssenode

import (
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/wire"
)

// earlyBytes bounds what is kept of a topic until its place in the stream is
// known; with more of it the stream is asked again.
const earlyBytes = 1 << 20

// chain is what the dispatcher knows of the order of a topic's messages: each
// names the sequence of the one before it on the same subject, so a hole shows
// with the next message. It is owned by the dispatcher's goroutine.
type chain struct {
	learned bool   // else messages are kept in early
	known   uint64 // complete up to this sequence
	tail    uint64 // of the last message
	// tails has the last sequence by subject, of a pattern with wildcards, since
	// everything was last checked.
	tails map[string]uint64

	early      []*nats.Msg
	earlyBytes int
}

// lastOn is the sequence of the last message that was seen on the subject, or
// up to which nothing of it is missing.
func (c *chain) lastOn(subject string) uint64 {
	if c.tails == nil {
		return max(c.tail, c.known)
	}
	return max(c.tails[subject], c.known)
}

// complete notes that nothing is missing up to the sequence.
func (c *chain) complete(seq uint64) {
	c.known = max(c.known, seq)
	maps.DeleteFunc(c.tails, func(_ string, last uint64) bool { return last <= seq })
}

func (c *chain) note(subject string, seq uint64) {
	if c.tails != nil {
		c.tails[subject] = seq
	}
	c.tail = max(c.tail, seq)
}

// message handles an event of a topic: it is given out if it is the next of its
// chain. The caller holds the hub's read lock.
func (d *dispatcher) message(t *topic, m *nats.Msg, now time.Time) {
	subject := m.Subject[len(d.hub.stream.Live()):]
	if subject == "" || subject[0] == '$' {
		return // the system's own, caught by a wildcard
	}
	seq := number(m.Header, wire.HeaderSequence)
	if seq == 0 { // history=off
		d.event(t, subject, 0, m.Data, false, now)
		return
	}
	c := &t.chain
	if !c.learned {
		if c.earlyBytes += len(m.Data); c.earlyBytes <= earlyBytes {
			c.early = append(c.early, m)
		}
		return
	}
	have := c.lastOn(subject)
	if seq <= have {
		d.stats.dropped[duplicate].Add(1)
		return
	}
	if before := number(m.Header, wire.HeaderLastSequence); before > have {
		d.repairTopics("hole in a channel", seq, []*topic{t})
		d.hold([]*nats.Msg{m})
		return
	}
	c.note(subject, seq)
	d.event(t, subject, seq, m.Data, false, now)
}

// event gives out a message, or keeps it for a while when its channel is
// throttled. late tells that it should have come before something that has been
// given out.
func (d *dispatcher) event(t *topic, subject string, seq uint64, data []byte, late bool, now time.Time) {
	r := t.route
	if r == nil {
		r = d.hub.routes.MatchSubject(subject)
	}
	if r.Throttle > 0 && d.throttled.keep(d, t, subject, seq, data, r.Throttle, now) {
		return
	}
	id := wire.ID{Epoch: d.epochNow(), Seq: seq}
	if late {
		id = wire.ID{} // a client's position must not go back
	}
	d.emit(t, subject, seq, id, data, late, r.Format, now)
}

func (d *dispatcher) emit(t *topic, subject string, seq uint64, id wire.ID, data []byte, late bool, format event.Format, now time.Time) {
	wrap := t.wraps.Load() > 0
	old := seq != 0 && seq < d.newest
	if l := d.last; l != nil && seq != 0 && l.seq == seq && l.subject == subject && !late && !l.late && (l.wrapped != nil || !wrap) {
		f := *l
		f.old = old
		d.give(t, &f, now)
		return
	}
	f, why := encode(t, subject, seq, id, data, format, wrap)
	if f == nil {
		d.stats.dropped[why].Add(1)
		return
	}
	f.old, f.late = old, late
	d.give(t, f, now)
}

// encode makes the frame of a message; nil when there is nothing to deliver.
func encode(t *topic, subject string, seq uint64, id wire.ID, data []byte, format event.Format, wrap bool) (*frame, dropReason) {
	name := t.name
	if !t.literal {
		var err error
		if name, err = channel.FromSubject(subject); err != nil {
			return nil, badSubject
		}
	}
	ev, err := event.Parse(data, format)
	if err != nil {
		return nil, notEnvelope
	}
	f := newFrame(id, ev, name, wrap)
	f.seq, f.subject = seq, subject
	return f, 0
}

func (d *dispatcher) epochNow() string {
	if e := d.epoch.Load(); e != nil {
		return *e
	}
	return ""
}
