package bridge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// fenceLen is how many messages of padding stand before the first barrier of a term:
	// more than anybody can have on the way, with pulses and marks.
	fenceLen = 2 * maxWindow
	// fencePart is after how many of them an answer is waited for.
	fencePart = 256
	// fenceTTL is how long they are kept, the shortest that there is.
	fenceTTL = "1s"
	// fenceTime is how long another bridge's padding is a sign that it is about to
	// write its barrier.
	fenceTime = time.Second
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
	if l.strays {
		l.strays = false
		l.queue.tell(newMark(wire.GapUpstream))
	}
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
// that it expects, after the ones before it did not. The first message of the padding is
// waited for by itself and keeps others from doing the same; the rest follows in parts:
// where all of it takes longer than an answer may, it would be begun again and again.
func (l *leader) fence(ctx context.Context, e *end, n uint64) error {
	inbox := l.nc.NewInbox()
	answers, err := l.nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return err
	}
	defer answers.Unsubscribe() //nolint:errcheck // fails only once the connection is closed
	for part := uint64(1); n > 0; part = min(n, fencePart) {
		if err := l.pad(ctx, e, part, inbox, answers); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// pad writes n messages of padding and takes the stream's answer to each.
func (l *leader) pad(ctx context.Context, e *end, n uint64, inbox string, answers *nats.Subscription) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	for range n {
		l.assigned = max(l.assigned, e.seq+1)
		m := l.message(wire.FenceToken, []byte(l.name), e.stamp, e.seq, fenceTTL)
		m.Reply = fmt.Sprintf("%s.%d", inbox, e.seq+1)
		if err := l.nc.PublishMsg(m); err != nil {
			return err
		}
		e.seq++
	}
	for range n {
		answer, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch _, err = parseAck(answer); {
		case err == nil:
		case n > 1 && errors.Is(err, errWrongSequence):
			if err := l.intruder(ctx, answer.Subject[len(inbox)+1:]); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// intruder looks at what stands where one message of the padding should. An error is
// for what the padding cannot go on after.
//
// A message of an ex-leader that came in just that moment found the sequence that it
// expects, though the ones before it were refused: those come again, and so does it.
// That cannot be undone any more, it has been republished; clients are told.
func (l *leader) intruder(ctx context.Context, sequence string) error {
	seq, err := strconv.ParseUint(sequence, 10, 64)
	if err != nil {
		return err
	}
	m, err := l.keeper.get(ctx, map[string]any{"seq": seq})
	if err == nil && (m.Subject == l.names.Log()+wire.FenceToken || m.Subject == l.names.Log()+wire.PulseToken) {
		return errWrongSequence // another bridge is about to lead, or does
	}
	// Told also where it cannot be said what it was.
	l.strays = true
	l.log.Warn("a message that was late came between the padding: clients are told of a gap", "sequence", seq)
	if errors.Is(err, errNone) {
		return errWrongSequence
	}
	return err
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
	answer, err := l.nc.RequestMsgWithContext(ctx, l.message(token, data, stamp, after, ttl))
	if err != nil {
		return ack{}, err
	}
	return parseAck(answer)
}
