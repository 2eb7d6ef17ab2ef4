package bridge

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// fenceLen is how many messages of padding stand before the first barrier of a term:
	// more than anybody can have on the way, with pulses and marks (see maxWindow), and as
	// many as a server takes in one batch, unless it is set otherwise.
	fenceLen = 1000
	// fenceLimit bounds the writing of the padding. A server waits as long for the next
	// message of a batch.
	fenceLimit = 10 * time.Second
	// fenceTTL is how long they are kept, the shortest that there is.
	fenceTTL = "1s"
	// fenceTime is how long another bridge's padding is a sign that it is about to
	// write its barrier.
	fenceTime = time.Second

	headerBatch         = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// barrier writes a pulse, mostly a marked one, after the end of the stream and waits
// for its acknowledgement.
func (l *leader) barrier(ctx context.Context, e end, term uint64, epoch string) error {
	begun := time.Now()
	if !l.shaped || e.seq == 0 {
		// Only here: a bridge that waits leaves the stream alone.
		if err := l.shape(ctx); err != nil {
			return err
		}
	}
	if e.seq > 0 && !e.quiet() {
		if err := l.fence(ctx, &e, l.padding(e, term, epoch)); err != nil {
			return fmt.Errorf("write fence: %w", err)
		}
	}
	// The last number and position stored: what is left in the window was not.
	stamp := wire.Stamp{Term: term, Position: e.stamp.Position}
	if term == l.term {
		stamp.Number = l.number - uint64(l.window.len())
	}
	if l.term != 0 {
		stamp.Position = l.window.done.text()
	}
	// After a farewell nothing can be missing: nodes need not compare everything.
	p := l.newPulse(term, epoch, l.term != 0 || !e.quiet())
	if term == l.term {
		p.Since = l.lastPulse
	} else if epoch == e.pulse.Epoch {
		p.Since = e.pulseSeq
	}
	if l.term == 0 {
		l.tried = term
	}
	l.assigned = max(l.assigned, e.seq+1)
	a, err := l.ask(ctx, wire.PulseToken, p.Encode(), stamp, e.seq, "")
	if err != nil {
		return fmt.Errorf("write barrier: %w", err)
	}
	switch {
	case term == l.term:
		l.log.Info("writing to the stream again", "term", term, "sequence", a.Seq, "to send again", l.window.len())
	case l.term != 0:
		l.begin(term, epoch, 0)
		if e.pulse.Epoch != "" {
			l.queue.tell(newMark(wire.GapUpstream)) // between the stream's last message and what it has lost
		}
		l.log.Info("leading on", "term", term, "epoch", epoch, "sequence", a.Seq)
	default:
		l.takeOver(e, term, epoch, a.Seq, time.Since(begun))
	}
	l.known, l.tried = known{term, epoch, a.Seq}, 0
	l.acked, l.assigned, l.heard, l.awake = a.Seq, a.Seq, p.Time, p.Time
	l.lastPulse, l.kept = a.Seq, p.Time
	l.farewell = false
	l.digest.Reset() // nodes compare everything up to here
	l.leads.Store(true)
	l.setState(state{leads: true})
	if p.Marked {
		// Live events are worthless when late; nodes tell of it.
		l.stats.dropped[noNATS].Add(uint64(l.queue.dropLive()))
	}
	return nil
}

// shape makes the stream as the settings say.
func (l *leader) shape(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	err := l.keeper.ensure(ctx)
	l.shaped = err == nil
	return err
}

// takeOver begins this bridge's time as the leader, exactly where the last one
// stopped or else with a gap mark.
func (l *leader) takeOver(e end, term uint64, epoch string, seq uint64, took time.Duration) {
	l.begin(term, epoch, 0)
	l.window.done = position{}
	if e.pulse.Epoch == "" && l.known.epoch == "" {
		l.place, l.cut = position{}, false
		l.queue.leadAll() // there has been no leader
		l.log.Info("leading", "term", term, "epoch", epoch, "sequence", seq)
		return
	}
	defer l.link.now()
	l.blind.Store(!l.link.linked())
	from, refused, why := l.queue.lead(e.stamp.Position, l.otherThan(e.pulse), e.quiet())
	for _, subject := range refused {
		l.refused.lose(subject) // the last leader may not have told of it
	}
	l.place, l.window.done, l.cut = from, from, false
	kind := exact
	switch {
	case why != nil:
		kind = withGap
		l.queue.tell(newMark(wire.GapUpstream))
	case e.quiet():
		kind = planned
	}
	l.stats.takeovers[kind].Add(1)
	away := e.age + took
	l.stats.takeoverTime.Observe(away.Seconds())
	n, _ := l.queue.load()
	l.log.Info("leading", "term", term, "epoch", epoch, "sequence", seq, "takeover", kind.String(), "since last pulse", away.Round(time.Millisecond), "kept", n)
	if why != nil {
		l.log.Warn("clients are told of a gap: messages between the last leader's and this one's may be missing", "why", why)
	}
}

// padding is how many messages stand before a barrier. Within its term this bridge knows
// what it has on its way, and nobody else has anything that the term's first barrier does
// not keep out.
func (l *leader) padding(e end, term uint64, epoch string) uint64 {
	if term != l.term || epoch != l.epoch || l.assigned > e.seq+fenceLen {
		return fenceLen
	}
	return max(l.assigned, e.seq+1) - e.seq
}

// fence writes n messages of padding after the end of the stream: as many as another
// bridge, or this one before, can have on their way. Each of those expects a
// sequence, and without the padding one in the middle of them could find the one
// that it expects, after the ones before it did not. The padding is one atomic batch
// (ADR-50, NATS 2.12): between its messages that could happen, too.
func (l *leader) fence(ctx context.Context, e *end, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	batch := newEpoch()
	// Only the first expects a sequence: so late ones of this batch itself are no danger.
	l.assigned = max(l.assigned, e.seq+1)
	for i := range n {
		m := l.message(wire.FenceToken, []byte(l.name), e.stamp, e.seq, fenceTTL)
		if i > 0 {
			m.Header.Del(headerExpected)
		}
		m.Header.Set(headerBatch, batch)
		m.Header.Set(headerBatchSequence, strconv.FormatUint(i+1, 10))
		if i < n-1 {
			if err := l.nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header.Set(headerBatchCommit, "1")
		a, err := l.request(ctx, m)
		if err != nil {
			return err
		}
		if a.Count != n || a.Seq != e.seq+n {
			return fmt.Errorf("the server stored %d messages of a batch of %d, up to sequence %d", a.Count, n, a.Seq)
		}
	}
	e.seq += n
	return nil
}

// message is one to be stored after the sequence.
func (l *leader) message(token string, data []byte, stamp wire.Stamp, after uint64, ttl string) *nats.Msg {
	m := nats.NewMsg(l.names.Log() + token)
	m.Data = data
	m.Header.Set(wire.Header, stamp.String())
	m.Header.Set(headerExpected, strconv.FormatUint(after, 10))
	if ttl != "" {
		m.Header.Set(headerTTL, ttl)
	}
	return m
}

// ask publishes such a message and waits for the stream's answer.
func (l *leader) ask(ctx context.Context, token string, data []byte, stamp wire.Stamp, after uint64, ttl string) (ack, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return l.request(ctx, l.message(token, data, stamp, after, ttl))
}

func (l *leader) request(ctx context.Context, m *nats.Msg) (ack, error) {
	answer, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return ack{}, err
	}
	return parseAck(answer)
}
