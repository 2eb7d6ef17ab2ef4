package ssenode

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// checkLimit bounds one try of a check.
	checkLimit = 30 * time.Second
	// tellAfter is how long the stream may not answer before the log tells: when
	// all is started at once the bridge needs a moment.
	tellAfter = 2 * time.Second
	// maxPulses bounds the pulses that wait for a check.
	maxPulses = 64
	// patience is how long after a check messages that the stream has may still be on
	// their way here.
	patience = time.Second
)

// checked is what a check has found.
type checked struct {
	life  uint64 // of the dispatcher when it began
	pulse wire.Pulse
	head  uint64  // that pulse's sequence
	first uint64  // of the first pulse of its epoch, if the stream was read from its beginning
	anew  bool    // nothing known of the stream holds any more
	marks []*mark // since the last one known
}

// missed does what is needed when anything may have been lost on the way here.
func (d *dispatcher) missed(why string) {
	d.markLive(gapDropped)
	d.check(why)
}

// check reads from the stream where it stands, and what gap marks it has, and
// then lets all topics be learned anew.
func (d *dispatcher) check(why string) {
	if d.checking {
		d.again = true
		return
	}
	d.doubt(time.Now()) // before ids are withheld, and not of those given after that
	d.checking, d.flooded, d.doubts.vouching = true, false, false
	// Ids are withheld until a pulse has been checked later: something may be missing,
	// and another server may not have heard of our subscriptions yet.
	d.tell(func(l *loop) { l.withhold(true) })
	d.stale = d.hub.all()
	d.beginSome()
	d.stats.checks.Add(1)
	d.log.Debug("comparing with the stream", "why", why)
	c := checked{life: d.life.Load()}
	epoch, head, marksAfter := d.epochNow(), d.head.Load(), d.markTail
	headTime := d.headTime
	d.helpers.Go(func() {
		started, told := time.Now(), false
		for {
			ctx, cancel := context.WithTimeout(d.work, checkLimit)
			err := d.ask(ctx, &c, epoch, head, headTime, marksAfter)
			cancel()
			if err == nil {
				d.call(d.work, func() { d.checked(&c) })
				return
			}
			if !told && time.Since(started) > tellAfter && d.hub.nc.IsConnected() && d.work.Err() == nil {
				told = true
				if errors.Is(err, errNothing) {
					d.log.Warn("no pulse in the stream yet: is the bridge running?", "stream", d.hub.stream.Name)
				} else {
					d.log.Warn("the stream does not answer, trying on", "why", why, "error", err)
				}
			}
			select {
			case <-time.After(askAgain):
			case <-d.work.Done():
				return
			}
		}
	})
}

func (d *dispatcher) ask(ctx context.Context, c *checked, epoch string, head uint64, headTime time.Time, marksAfter uint64) (err error) {
	if c.pulse, c.head, err = d.history.lastPulse(ctx); err != nil {
		return err
	}
	if c.pulse.Epoch == epoch && c.head < head && !c.pulse.Time.After(headTime) {
		// An older one is no sign of a loss: the last one has expired, as no bridge
		// writes, or a stream leader that has just been elected has not come so far.
		c.head = head
	}
	if c.anew = c.pulse.Epoch != epoch || c.head < head; c.anew {
		marksAfter, head = 0, 0
	}
	c.first, c.marks = c.head, nil
	return d.readMarks(ctx, c, marksAfter, head)
}

// readMarks reads gap marks and marked pulses of the epoch.
func (d *dispatcher) readMarks(ctx context.Context, c *checked, afterMark, afterPulse uint64) error {
	last, err := d.history.leaderLast(ctx, wire.GapToken)
	if err != nil {
		return err
	}
	err = d.history.each(ctx, wire.GapToken, afterMark, last.seq, func(r record) {
		if w, err := wire.ParseMark(r.data); err == nil && w.Epoch == c.pulse.Epoch {
			c.marks = append(c.marks, markOf(w, r.seq))
		}
	})
	if err != nil {
		return err
	}
	err = d.history.each(ctx, wire.PulseToken, afterPulse, c.head, func(r record) {
		p, err := wire.ParsePulse(r.data)
		if err != nil || p.Epoch != c.pulse.Epoch {
			return
		}
		if c.first = min(c.first, r.seq); p.Marked && p.Since != 0 {
			c.marks = append(c.marks, &mark{seq: r.seq, since: p.Since, at: r.at})
		}
	})
	slices.SortFunc(c.marks, func(a, b *mark) int { return cmp.Compare(a.seq, b.seq) })
	return err
}

// checked goes on after a check, when all topics are begun anew.
func (d *dispatcher) checked(c *checked) {
	if len(d.stale) > 0 {
		d.answer = c
		return
	}
	d.checking, d.answer = false, nil
	switch {
	case c.life != d.life.Load():
		d.again = true // it was about another epoch
	case c.anew:
		d.headTime, d.term = c.pulse.Time, c.pulse.Term
		d.restart(c)
	default:
		for _, m := range c.marks {
			d.mark(m)
		}
		if c.head > d.head.Load() {
			d.headTime, d.term = c.pulse.Time, c.pulse.Term
			d.verified(c.head)
		}
	}
	if d.again {
		d.again = false
		if d.flooded { // perhaps also after that was told
			d.markLive(gapDropped)
		}
		d.check("something was missed meanwhile")
		return
	}
	d.patient = time.Now().Add(patience)
	for _, t := range d.unlearned {
		d.learner.add(t)
	}
	d.unlearned = nil
	pulses := d.pulses
	d.pulses = nil
	for _, m := range pulses {
		d.pulse(m)
	}
}

// keepPulse keeps a pulse until the check under way is done.
func (d *dispatcher) keepPulse(m *nats.Msg) {
	if len(d.pulses) == maxPulses {
		d.pulses, d.again = nil, true // the next check reads the last one
		return
	}
	d.pulses = append(d.pulses, m)
}

// probe looks whether the stream has a pulse that did not come here.
func (d *dispatcher) probe() {
	head, epoch := d.head.Load(), d.epochNow()
	d.helpers.Go(func() {
		ctx, cancel := context.WithTimeout(d.work, askLimit)
		defer cancel()
		p, seq, err := d.history.lastPulse(ctx)
		if err == nil && (seq > head || p.Epoch != epoch) {
			select {
			case <-time.After(patience): // it may be on its way, or wait here already
			case <-d.work.Done():
				return
			}
			d.call(d.work, func() {
				if d.head.Load() < seq || d.epochNow() != p.Epoch {
					if d.head.Load() == head {
						d.hole() // with the connection well; restart forgets it
					}
					d.check("no pulse came for a while")
				}
			})
		}
	})
}
