package ssenode

import (
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/route"
	"sluice/shared/wire"
)

// What is kept of a topic, and of all, until their place in the stream is known;
// with more of it the stream is asked again.
const (
	earlyBytes    = 1 << 20
	allEarlyBytes = 64 << 20
)

// chain is what the dispatcher knows of the order of a topic's messages: each
// names the sequence of the one before it on the same subject, so a hole shows
// with the next message. It is owned by the dispatcher's goroutine.
type chain struct {
	learned bool   // else messages are kept in early, as many as may be
	known   uint64 // complete up to this sequence
	tail    uint64 // of the last message
	// tails has the last sequence by subject, of a pattern with wildcards, since
	// everything was last checked.
	tails map[string]uint64
	// had is, of a channel that is begun anew, the sequence up to which it was
	// complete: its ring is good if there is nothing later.
	had uint64
	// late tells that something was given out after something later.
	late bool

	early *early // nil for none
}

// early is messages that came before the place of their topic was known.
type early struct {
	list  []*nats.Msg
	bytes int
	full  bool // some were not kept
}

// keep keeps a message until the chain is learned.
func (d *dispatcher) keep(c *chain, m *nats.Msg) {
	size := len(m.Data) + len(m.Subject)
	if c.early == nil {
		c.early = &early{}
	}
	e := c.early
	if e.full = e.full || e.bytes+size > earlyBytes || d.early+size > allEarlyBytes; e.full {
		d.stats.dropped[slowConsumer].Add(1)
		return
	}
	e.list = append(e.list, m)
	e.bytes += size
	d.early += size
}

// forgetEarly returns what was kept.
func (d *dispatcher) forgetEarly(c *chain) []*nats.Msg {
	e := c.early
	if e == nil {
		return nil
	}
	c.early = nil
	d.early -= e.bytes
	return e.list
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
		d.event(t, subject, 0, m.Data, now)
		return
	}
	c := &t.chain
	if !c.learned {
		d.keep(c, m)
		return
	}
	have := c.lastOn(subject)
	if seq <= have {
		d.stats.dropped[duplicate].Add(1)
		return
	}
	if before := number(m.Header, wire.HeaderLastSequence); before > have || seq < c.tail {
		// A hole; or, of a pattern, after something later, as it can come when the
		// stream gets another leader.
		if t.settled.Load() != 0 { // else no id has vouched for it
			d.hole()
		}
		d.relearn([]*topic{t})
		d.keep(c, m)
		return
	}
	if seq < d.newest && t.settled.Load() != 0 {
		d.hole() // late: ids of other channels have vouched for it
	}
	c.note(subject, seq)
	d.event(t, subject, seq, m.Data, now)
}

// event gives out a message, or keeps it for a while when its channel is
// throttled.
func (d *dispatcher) event(t *topic, subject string, seq uint64, data []byte, now time.Time) {
	r := t.route
	if r == nil {
		r = d.hub.routes.MatchSubject(subject)
	}
	if r.Throttle > 0 && d.throttled.keep(d, t, subject, seq, data, r.Throttle, now) {
		return
	}
	id := wire.ID{Epoch: d.epochNow(), Seq: seq}
	if seq < d.newest {
		id = wire.ID{} // a client's position must not go back
	}
	d.emit(t, subject, seq, id, data, r, now)
}

func (d *dispatcher) emit(t *topic, subject string, seq uint64, id wire.ID, data []byte, r *route.Route, now time.Time) {
	wrap := t.wraps.Load() > 0
	old := seq != 0 && seq < d.newest
	if l := d.last; l != nil && seq != 0 && l.seq == seq && l.subject == subject && (l.idLen == 0) == (id.Seq == 0) && (l.wrapped != nil || !wrap) {
		f := *l
		f.old = old
		d.give(t, &f, now)
		return
	}
	f, why := encode(t, subject, seq, id, data, r, wrap)
	if f == nil {
		d.stats.dropped[why].Add(1)
		return
	}
	f.old = old
	d.give(t, f, now)
}

// encode makes the frame of a message of a channel with that route; nil when there is nothing to deliver.
func encode(t *topic, subject string, seq uint64, id wire.ID, data []byte, r *route.Route, wrap bool) (*frame, dropReason) {
	var name string
	if wrap || !t.literal { // a literal one was checked when it was subscribed
		var err error
		if name, err = channel.FromSubject(subject); err != nil {
			return nil, badSubject
		}
	}
	ev, err := event.Parse(data, r.Format)
	if err != nil {
		return nil, notEnvelope
	}
	var criteria *event.Criteria
	if ev.Criteria != nil {
		list, err := event.ParseCriteria(ev.Criteria)
		if err != nil {
			return nil, badCriteria // whom it is for is not known
		}
		if len(list) > 0 {
			criteria = &list
		}
	}
	f := newFrame(id, ev, name, wrap)
	f.seq, f.subject, f.criteria, f.priority = seq, subject, criteria, r.Priority
	return f, 0
}

func (d *dispatcher) epochNow() string {
	if e := d.epoch.Load(); e != nil {
		return *e
	}
	return ""
}
