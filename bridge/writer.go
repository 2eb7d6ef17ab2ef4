package bridge

import (
	"context"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// maxWindow and maxWindowBytes bound what is under way to the stream, but for the
	// rest of a batch from the queue, and pulses and marks: with these it stays below
	// fenceLen, also at the shortest BRIDGE_PULSE.
	maxWindow      = 800
	maxWindowBytes = 16 << 20
	// ackLimit is how long an acknowledgement may take. A NATS election takes
	// longer, so a new stream leader always finds a barrier first.
	ackLimit = time.Second
	// leaseFor is how long a bridge still writes after it made the last pulse that was
	// acknowledged, and after it last looked at the clock: less than aliveFor, after
	// which another one may have begun to, and longer than the longest time between
	// two pulses.
	leaseFor = 1400 * time.Millisecond
	// digestBytes bounds the digest of a pulse; a fuller one is sent early.
	digestBytes = 32 << 10
	// keptPulses is how many pulses within the stream's age are kept as long as
	// events. With them the stream's first sequence tells how far back it
	// reaches, however quiet it was.
	keptPulses = 100
	// popBatch is how many messages are taken from the queue at a time.
	popBatch = 64

	headerExpected = "Nats-Expected-Last-Sequence"
	headerTTL      = "Nats-TTL"
)

// headerReserve is what a message needs in bytes beside its payload under the
// server's max_payload: the version line, two header lines of ours at their
// longest, the empty line.
const headerReserve = len("NATS/1.0\r\n") + len(wire.Header) + len(": \r\n") + wire.MaxStamp +
	len(headerExpected) + len(": \r\n") + 20 + len("\r\n")

// write sends the window again, then what comes, until something is wrong: an
// error, an acknowledgement that does not come, or the end of the context. What
// was not acknowledged is in the window then. It returns nil when the bridge is
// leaving and all is acknowledged.
func (l *leader) write(ctx context.Context) error {
	l.attempt++
	w := newWire(l)
	for i := range l.window.len() {
		if err := l.send(w, l.window.at(i)); err != nil {
			return err
		}
	}
	pulse := time.NewTicker(l.pulse)
	defer pulse.Stop()
	check := time.NewTicker(ackLimit / 4)
	defer check.Stop()
	progress := time.Now()
	stopping := l.stopping
	var batch []message
	for {
		for l.window.len() < maxWindow && l.window.bytes < maxWindowBytes {
			now := time.Now()
			if l.window.len() == 0 {
				progress = now
			}
			// Looked at before each batch: this process may have been stopped, and what
			// it hears now be old.
			silent := max(now.Sub(l.heard), now.Sub(l.awake))
			if l.awake = now; silent > leaseFor {
				return fmt.Errorf("stopped, or no pulse acknowledged, for %s", silent.Round(time.Millisecond))
			}
			if batch = l.next(batch[:0]); len(batch) == 0 {
				break
			}
			if err := l.sendAll(w, batch); err != nil {
				return err
			}
		}
		l.stats.inFlight.Store(int64(l.window.len()))
		if l.leaving && len(l.rest) == 0 {
			if l.farewell && l.window.len() == 0 {
				return nil
			}
			if !l.farewell {
				l.farewell = true
				if err := l.sendPulse(w); err != nil {
					return err
				}
			}
		}
		select {
		case <-stopping:
			stopping = nil
			l.leave()
		case <-l.yield:
			if !l.link.linked() {
				l.log.Info("no link to Redis: giving way to a bridge that has one")
				l.leave()
			}
		case m := <-l.acks:
			for more := true; more; {
				if err := l.acknowledged(m); err != nil {
					return err
				}
				select {
				case m = <-l.acks:
				default:
					more = false
				}
			}
			progress = time.Now()
		case <-l.queue.ready:
		case <-pulse.C:
			if l.window.len() == 0 {
				progress = time.Now()
			}
			if err := l.sendPulse(w); err != nil {
				return err
			}
		case <-check.C:
			if l.window.len() > 0 && time.Since(progress) > ackLimit {
				return fmt.Errorf("no acknowledgement for %s", ackLimit)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leave ends the taking of messages from Redis: what has come by now is written, and
// then a farewell.
func (l *leader) leave() {
	if !l.leaving {
		l.leaving = true
		l.rest, l.through = l.queue.follow()
	}
}

// next moves messages that are to be written to dst.
func (l *leader) next(dst []message) []message {
	if !l.leaving {
		dst, l.through = l.queue.pop(dst, popBatch)
	} else {
		n := min(popBatch, len(l.rest))
		dst = append(dst, l.rest[:n]...)
		l.rest = l.rest[n:]
	}
	if len(dst) == 0 {
		l.handled(l.through)
	}
	return dst
}

// reach moves this bridge's place to a message's.
func (l *leader) reach(m *message) {
	l.handled(m.place.at)
	switch {
	case m.nonce != nil:
		l.place.anchor, l.cut = m.nonce, false
		if sent := m.nonce.sent; !sent.IsZero() {
			l.waited = time.Since(sent)
			l.stats.queueTime.Observe(l.waited.Seconds())
		}
	case m.broken:
		l.cut = true
	}
}

// handled notes that this bridge is done with everything up to the message from
// Redis with the number.
func (l *leader) handled(at uint64) {
	if at <= l.place.at {
		return
	}
	if l.place.at = at; l.cut {
		l.place.anchor, l.cut = nil, false
	}
}

// sendPulse writes what is to be told about messages lost since the last one,
// and a pulse.
func (l *leader) sendPulse(w *wireMsg) error {
	batch := make([]message, 0, 2)
	if m := l.refused.take(l.farewell); m != nil {
		batch = append(batch, message{subject: wire.GapToken, mark: m})
	}
	p := l.newPulse(l.term, l.epoch, false)
	p.Leaving = l.farewell
	p.Waited, l.waited = l.waited, 0
	keep := p.Time.Sub(l.kept) >= l.keepEvery || l.farewell
	if keep {
		l.kept = p.Time
	}
	return l.sendAll(w, append(batch, message{subject: wire.PulseToken, pulse: &p, keep: keep}))
}

// sendAll puts messages into the window and sends them. After an error all of
// them are in the window all the same; live ones are lost.
func (l *leader) sendAll(w *wireMsg, batch []message) (err error) {
	for i := range batch {
		m := &batch[i]
		switch l.reach(m); {
		case m.nonce != nil || m.broken:
			continue
		case m.refused:
			l.refused.lose(m.subject)
			continue
		case m.live:
			if err == nil && l.nc.Publish(w.liveOf(m), bytesOf(m.payload)) == nil {
				l.stats.live.Add(1)
				l.stats.liveBytes.Add(uint64(len(m.payload)))
			} else {
				l.stats.dropped[noNATS].Add(1)
			}
			continue
		}
		l.number++
		m.number, m.place = l.number, l.place
		l.window.push(*m)
		if err == nil {
			err = l.send(w, l.window.at(l.window.len()-1))
		}
	}
	clear(batch)
	if err == nil && l.digest.Size() > digestBytes {
		err = l.sendPulse(w)
	}
	return err
}

// send gives the message the next sequence and publishes it.
func (l *leader) send(w *wireMsg, m *message) error {
	l.assigned++
	m.seq = l.assigned
	switch {
	case m.pulse != nil:
		// With what is true now: when all is sent again sequences are others, and
		// after the stream was lost the epoch, too.
		m.pulse.Epoch, m.pulse.Term, m.pulse.Digest = l.epoch, l.term, l.digest.Take()
		now := time.Now().UTC()
		if m.pulse.Waited > 0 {
			m.pulse.Waited += now.Sub(m.pulse.Time)
		}
		m.pulse.Time = now // a later one in the stream is never older
	case m.mark != nil:
		m.mark.Epoch, m.mark.Term = l.epoch, l.term
		l.digest.Add(m.subject, m.seq)
	default:
		l.digest.Add(m.subject, m.seq)
	}
	if err := l.nc.PublishMsg(w.of(m, l.term)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// wireMsg is one NATS message that is filled anew for each publish: nats.go
// has copied it when PublishMsg returns.
type wireMsg struct {
	msg, pulse     nats.Msg
	stamp, expects []string
	log, live      string
	inbox          string
	// What the strings of the message are made of, used again for the next one.
	place, mark, seq, subject, reply []byte
}

func newWire(l *leader) *wireMsg {
	w := &wireMsg{stamp: []string{""}, expects: []string{""}, log: l.names.Log(), live: l.names.Live(), inbox: fmt.Sprintf("%s.%d.", l.inbox, l.attempt)}
	w.msg.Header = nats.Header{wire.Header: w.stamp, headerExpected: w.expects}
	w.pulse.Header = nats.Header{wire.Header: w.stamp, headerExpected: w.expects, headerTTL: {pulseTTL}}
	return w
}

func (w *wireMsg) of(m *message, term uint64) *nats.Msg {
	out := &w.msg
	switch {
	case m.pulse != nil:
		if !m.keep {
			out = &w.pulse
		}
		out.Data = m.pulse.Encode()
	case m.mark != nil:
		out.Data = m.mark.Encode()
	default:
		out.Data = bytesOf(m.payload)
	}
	w.place = m.place.append(w.place[:0])
	w.mark = wire.Stamp{Term: term, Number: m.number, Position: view(w.place)}.Append(w.mark[:0])
	w.seq = strconv.AppendUint(w.seq[:0], m.seq-1, 10)
	w.subject = append(append(w.subject[:0], w.log...), m.subject...)
	w.reply = strconv.AppendUint(append(w.reply[:0], w.inbox...), m.number, 10)
	w.stamp[0], w.expects[0], out.Subject, out.Reply = view(w.mark), view(w.seq), view(w.subject), view(w.reply)
	return out
}

// liveOf is the subject of a message that goes past the stream.
func (w *wireMsg) liveOf(m *message) string {
	w.subject = append(append(w.subject[:0], w.live...), m.subject...)
	return view(w.subject)
}

// view is a string of bytes that will be overwritten.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf gives a string's bytes without a copy; nobody writes to them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
