package ssenode

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

// doubtEvery is how often the stream is asked because of pulses that may be old ones.
const doubtEvery = time.Second

// pulse handles a pulse as it comes live: it tells what was written since the
// last one. Topics that lack something of that are learned anew, with clients
// that get nothing until that is done; to all others everything up to the pulse
// is verified.
func (d *dispatcher) pulse(m *nats.Msg) {
	p, err := wire.ParsePulse(m.Data)
	if err != nil {
		d.log.Warn("pulse not understood", "error", err)
		return
	}
	d.pulsed = time.Now()
	seq, head := number(m.Header, wire.HeaderSequence), d.head.Load()
	switch known := d.epochNow(); {
	case d.checking:
		d.keepPulse(m)
		return
	case p.Epoch != known && (p.Term < d.term || p.Term == d.term && !p.Time.After(d.headTime)):
		// Of before the stream began anew; or of a bridge that does not know which terms
		// there were. The stream tells.
		if d.pulsed.Sub(d.doubted) > doubtEvery {
			d.doubted = d.pulsed
			d.check("a pulse of another epoch")
		}
		return
	case p.Epoch != known:
		d.check("the stream began anew")
		return
	case seq < head && p.Time.After(d.headTime):
		d.log.Error("the stream's sequence went back within an epoch", "from", head, "to", seq)
		d.check("sequence went back")
		return
	case seq <= head:
		return // told by the stream already
	}
	d.compareRoutes(p.Routes)
	behind, missed, err := d.behind(p.Digest)
	before := number(m.Header, wire.HeaderLastSequence) // less than head, or 0, when the last one has expired
	if missed || before > head || slices.ContainsFunc(behind, func(t *topic) bool { return t.settled.Load() != 0 }) {
		d.hole() // here, for a check moves the head
	}
	switch {
	case err != nil:
		d.log.Warn("digest of a pulse not understood", "error", err)
		d.check("digest not understood")
	case p.Marked:
		d.markLive(gapDropped)
		d.check("marked pulse")
	case before != head:
		d.check("missed a pulse")
	case missed:
		d.check("missed a gap mark")
	default:
		if len(behind) > 0 {
			d.log.Debug("messages were stored and not sent", "topics", len(behind))
			d.relearn(behind)
		}
		d.doubt(d.pulsed)
		d.doubts.vouching = true
		d.headTime, d.term = p.Time, p.Term
		for _, t := range d.hub.wild.all {
			if t.chain.learned {
				t.chain.complete(seq)
			}
		}
		d.settle(seq)
		d.verified(seq)
		d.timed(&p)
	}
}

// behind returns the topics that lack something of what the digest tells, and
// whether a gap mark is missing.
func (d *dispatcher) behind(digest []byte) (list []*topic, mark bool, err error) {
	lacks := func(t *topic, subject []byte, seq uint64) {
		if c := &t.chain; c.learned && seq > c.lastOn(string(subject)) {
			list = append(list, t)
		}
	}
	err = wire.EachInDigest(digest, func(subject []byte, seq uint64) {
		if string(subject) == wire.GapToken {
			mark = seq > d.markTail
			return
		}
		if t := d.hub.topics[string(subject)]; t != nil && t.literal {
			lacks(t, subject, seq)
		}
		d.hub.wild.match(subject, func(t *topic) { lacks(t, subject, seq) })
	})
	return list, mark, err
}

func (d *dispatcher) compareRoutes(hash string) {
	if own := d.hub.routes.Hash(); hash != own {
		d.stats.routes.Add(1)
		if d.routes != hash {
			d.routes = hash
			d.log.Warn("the bridge has other ROUTES than this node", "bridge", hash, "node", own)
		}
	}
}

// verified notes that everything up to the sequence is here and was given out.
func (d *dispatcher) verified(seq uint64) {
	d.head.Store(seq)
	d.stats.knows()
	n := d.hub.n
	d.tell(func(l *loop) { l.verify(seq, n) })
}

// settle lets topics have ids that were subscribed before the pulse was sent:
// it came live, so does what is written from now on.
func (d *dispatcher) settle(seq uint64) {
	for t := range d.unsettled {
		switch {
		case d.hub.topics[t.subject()] != t:
			delete(d.unsettled, t)
		case t.chain.learned && t.settleAfter < seq:
			t.settled.Store(d.hub.n + 1)
			delete(d.unsettled, t)
		}
	}
}

// unsettle withholds ids of the topic until a pulse after the sequence. While its
// place is not known no pulse can settle it, so it is not among those that every
// pulse looks at: of a million topics begun anew a pulse would take as long as the
// next one takes to come, and the learner, whose answers a pulse makes old, would
// never get on.
func (d *dispatcher) unsettle(t *topic, after uint64) {
	t.settled.Store(0)
	t.settleAfter = after
	if t.chain.learned {
		d.unsettled[t] = struct{}{}
	} else {
		delete(d.unsettled, t)
	}
}

// restart begins anew in another epoch: nothing that was known of the stream
// holds any more.
func (d *dispatcher) restart(c *checked) {
	before, epoch, head, marks := d.epochNow(), c.pulse.Epoch, c.head, c.marks
	if before == "" {
		d.log.Info("stream found", "epoch", epoch, "head", head)
	} else {
		d.log.Warn("the stream began anew", "epoch", epoch, "before", before)
	}
	d.epoch.Store(&epoch)
	d.head.Store(head)
	d.stats.knows()
	d.newest, d.markTail, d.last = 0, 0, nil
	d.pulses = slices.DeleteFunc(d.pulses, func(m *nats.Msg) bool {
		p, err := wire.ParsePulse(m.Data)
		return err != nil || p.Epoch != epoch
	})
	d.doubts.since, d.doubts.own = 0, nil
	d.life.Add(1)
	for _, m := range marks {
		if m.since == 0 {
			d.markTail = m.seq
		}
	}
	d.setMarks(marks)
	if !d.started.Swap(true) {
		close(d.found)
	}
	for _, t := range d.hub.topics {
		d.forgetEarly(&t.chain) // of before; what is of this epoch is in the stream, too
		if t.chain.learned {
			d.begin(t)
		}
		t.chain.had = 0
		d.rings.empty(t, d.hub.n)
		t.mu.Lock()
		t.forget()
		t.mu.Unlock()
	}
	if before == "" {
		d.tell(func(l *loop) { l.found(epoch, head) })
		return
	}
	d.hub.n++
	m := &mark{n: d.hub.n, reason: gapRecreated, at: time.Now()}
	first := c.first
	d.tell(func(l *loop) { l.restart(m, epoch, head, first) })
}
