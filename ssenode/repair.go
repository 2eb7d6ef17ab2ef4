package ssenode

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

// heldBytes bounds the messages that wait for a repair. What does not fit is
// dropped and repaired by the next one.
const heldBytes = 64 << 20

// need is a topic to be compared with the stream.
type need struct {
	topic   *topic
	subject string
	after   uint64
}

// repaired is what a repair has found.
type repaired struct {
	epoch string    // of the last pulse; "" when only some topics were repaired
	life  uint64    // of the dispatcher when it began
	anew  bool      // nothing known of the stream holds any more
	time  time.Time // of the last pulse
	term  uint64    // likewise
	head  uint64    // complete up to here: that pulse's sequence
	needs []need
	found []found
	short []*topic // something of theirs has expired already
	marks []*mark
}

type found struct {
	topic *topic
	record
}

// hold keeps messages until the repair under way is done.
func (d *dispatcher) hold(batch []*nats.Msg) {
	for _, m := range batch {
		if len(m.Header[wire.HeaderSequence]) == 0 && m.Sub != d.system[0] && m.Sub != d.system[1] {
			d.receive(m, time.Now()) // history=off: late is worthless
			continue
		}
		if d.heldBytes+int64(len(m.Data)) > heldBytes {
			d.again = true
			d.stats.dropped[slowConsumer].Add(1)
			continue
		}
		d.held = append(d.held, m)
		d.heldBytes += int64(len(m.Data)) + int64(len(m.Subject))
	}
}

// repairTopics fetches what the topics lack up to a sequence.
func (d *dispatcher) repairTopics(why string, upTo uint64, topics []*topic) {
	if d.repairing {
		d.again = true
		return
	}
	var needs []need
	for _, t := range topics {
		if !slices.ContainsFunc(needs, func(n need) bool { return n.topic == t }) {
			needs = append(needs, d.needOf(t))
		}
	}
	d.repair(why, func(ctx context.Context) (repaired, error) {
		r := repaired{needs: needs, head: upTo}
		return r, d.fetch(ctx, &r)
	})
}

func (d *dispatcher) needOf(t *topic) need {
	after := t.chain.known
	if t.literal { // else other channels of the pattern may lack what is before it
		after = max(after, t.chain.tail)
	}
	return need{t, t.subject(), after}
}

// repairAll compares all topics with the stream, up to its last pulse.
func (d *dispatcher) repairAll(why string) {
	if d.repairing {
		d.again = true
		return
	}
	var needs []need
	for _, t := range d.hub.topics {
		if t.chain.learned {
			needs = append(needs, d.needOf(t))
		}
	}
	epoch, head, marksAfter := d.epochNow(), d.head.Load(), d.markTail
	d.repair(why, func(ctx context.Context) (repaired, error) {
		r := repaired{needs: needs}
		p, seq, err := d.history.lastPulse(ctx)
		if err != nil {
			return r, err
		}
		r.epoch, r.head, r.time, r.term = p.Epoch, seq, p.Time, p.Term
		if r.anew = p.Epoch != epoch || seq < head; r.anew {
			// The topics are begun anew; all that is needed are the marks.
			r.needs, marksAfter, head = nil, 0, 0
		}
		if r.marks, err = d.readMarks(ctx, p.Epoch, marksAfter, head, r.head); err != nil {
			return r, err
		}
		return r, d.fetch(ctx, &r)
	})
}

// repair runs ask beside the dispatcher until it succeeds.
func (d *dispatcher) repair(why string, ask func(context.Context) (repaired, error)) {
	d.repairing = true
	d.stats.repairs.Add(1)
	d.log.Debug("comparing with the stream", "why", why)
	life := d.life.Load()
	d.helpers.Go(func() {
		started, told := time.Now(), false
		for {
			ctx, cancel := context.WithTimeout(d.work, repairLimit)
			r, err := ask(ctx)
			cancel()
			if err == nil {
				r.life = life
				d.call(d.work, func() { d.repaired(&r) })
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

// repairLimit bounds one try of a repair.
const repairLimit = 30 * time.Second

// tellAfter is how long the stream may not answer before the log tells: when
// all is started at once the bridge needs a moment.
const tellAfter = 2 * time.Second

// readMarks reads gap marks and marked pulses of the epoch. pulse is the
// sequence of the last pulse.
func (d *dispatcher) readMarks(ctx context.Context, epoch string, afterMark, afterPulse, pulse uint64) (list []*mark, err error) {
	last, err := d.history.leaderLast(ctx, wire.GapToken)
	if err != nil {
		return nil, err
	}
	err = d.history.each(ctx, wire.GapToken, afterMark, last.seq, func(r record) {
		if w, err := wire.ParseMark(r.data); err == nil && w.Epoch == epoch {
			list = append(list, markOf(w, r.seq))
		}
	})
	if err != nil {
		return nil, err
	}
	err = d.history.each(ctx, wire.PulseToken, afterPulse, pulse, func(r record) {
		if p, err := wire.ParsePulse(r.data); err == nil && p.Epoch == epoch && p.Marked && p.Since != 0 {
			list = append(list, &mark{seq: r.seq, since: p.Since, at: r.at})
		}
	})
	slices.SortFunc(list, func(a, b *mark) int { return cmp.Compare(a.seq, b.seq) })
	return list, err
}

// fetch reads what the topics in need lack.
func (d *dispatcher) fetch(ctx context.Context, r *repaired) error {
	literal := map[string]need{}
	var subjects []string
	since := uint64(0)
	ask := func() error {
		list, _, err := d.history.lastSince(ctx, subjects, since+1, r.head)
		if err != nil {
			return err
		}
		for _, l := range list {
			if n, ok := literal[l.subject]; ok && l.seq > n.after {
				if err := d.fetchOne(ctx, r, n, l.seq); err != nil {
					return err
				}
			}
		}
		subjects = subjects[:0]
		return nil
	}
	for _, n := range r.needs {
		if !n.topic.literal {
			l, err := d.history.leaderLast(ctx, n.subject)
			if err == nil && l.seq > n.after {
				err = d.fetchOne(ctx, r, n, l.seq)
			}
			if err != nil {
				return err
			}
			continue
		}
		literal[n.subject] = n
		if subjects = append(subjects, n.subject); len(subjects) == 1 || n.after < since {
			since = n.after
		}
		if len(subjects) == lastCount {
			if err := ask(); err != nil {
				return err
			}
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	return ask()
}

// fetchOne reads what one topic lacks, whose last message is seq, up to the head
// of the repair: what is later comes live, in one order with all else.
func (d *dispatcher) fetchOne(ctx context.Context, r *repaired, n need, seq uint64) error {
	seq = min(seq, r.head)
	counts, short := map[string]int{}, false
	for after := n.after; after < seq; {
		p, err := d.history.reaching(ctx, n.subject, after, seq)
		if err != nil {
			return err
		}
		for _, m := range p.records {
			if m.seq > r.head {
				break
			}
			r.found = append(r.found, found{n.topic, m})
			counts[m.subject]++
			short = short || d.hub.trimmed(m.subject, counts[m.subject])
		}
		short = short || p.first > after+1
		if p.pending == 0 {
			break
		}
		after = p.through
	}
	if short {
		r.short = append(r.short, n.topic)
	}
	return nil
}

// repaired gives out what was found, in its order, and then what was held.
func (d *dispatcher) repaired(r *repaired) {
	d.repairing = false
	now := time.Now()
	switch {
	case r.life != d.life.Load():
		d.again = true // it was about another epoch
	case r.anew:
		d.headTime, d.term = r.time, r.term
		d.restart(r.epoch, r.head, r.marks)
	default:
		d.apply(r, now)
	}
	held := d.held
	d.held, d.heldBytes = nil, 0
	if d.again {
		d.again = false
		d.repairAll("something was missed meanwhile")
	}
	for i, m := range held {
		if d.repairing {
			d.hold(held[i:])
			return
		}
		d.receive(m, now)
	}
}

// apply gives out what a repair of the same epoch has found.
func (d *dispatcher) apply(r *repaired, now time.Time) {
	for _, t := range r.short {
		if d.hub.topics[t.subject()] == t {
			d.mark(&mark{reason: gapExpired, subjects: []string{t.subject()}, at: now})
			// Who comes back from before that has to ask the stream, and is told.
			from := r.head
			if i := slices.IndexFunc(r.found, func(f found) bool { return f.topic == t }); i >= 0 {
				from = r.found[i].seq
			}
			t.mu.Lock()
			t.ring.from = max(t.ring.from, from)
			t.mu.Unlock()
		}
	}
	slices.SortStableFunc(r.found, func(a, b found) int { return cmp.Compare(a.seq, b.seq) })
	marks := r.marks
	tellMarks := func(below uint64) {
		for len(marks) > 0 && marks[0].seq < below {
			d.mark(marks[0])
			marks = marks[1:]
		}
	}
	for _, f := range r.found {
		c := &f.topic.chain
		if d.hub.topics[f.topic.subject()] != f.topic || !c.learned || f.seq <= c.lastOn(f.subject) {
			continue
		}
		tellMarks(f.seq)
		c.note(f.subject, f.seq)
		d.stats.repaired.Add(1)
		d.event(f.topic, f.subject, f.seq, f.data, f.seq < d.newest, now)
	}
	tellMarks(math.MaxUint64)
	for _, n := range r.needs {
		// What has expired will not come any more. The message at head itself
		// may still, when it was one that showed a hole.
		n.topic.chain.complete(r.head - 1)
	}
	if r.epoch != "" && r.head > d.head.Load() {
		d.headTime, d.term = r.time, r.term
		d.verified(r.head)
	}
}
