package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/redisconn"
	"sluice/shared/wire"
)

const (
	// aliveFor is how long after its last pulse a bridge is taken to lead.
	aliveFor = 1500 * time.Millisecond
	// askLimit bounds one look at the stream and one barrier.
	askLimit = 3 * time.Second
	// lookAgain is how often a waiting bridge looks for the leader's pulse.
	lookAgain = 250 * time.Millisecond
	// pulseTTL is how long an ordinary pulse is kept. Marked ones are kept as
	// long as events.
	pulseTTL = "60s"
)

// leader decides whether this bridge leads and, while it does, is the one
// writer to the stream (see writer.go). It runs on one goroutine.
//
// The stream itself is the judge. Every message names the sequence it expects
// before it; a bridge begins a term, and goes on after any trouble, with a
// barrier: a marked pulse, and nothing else before its acknowledgement. Once a
// barrier is stored, nothing written before it by anybody can be stored any
// more, and the stamp at the end of the stream tells which of the bridge's own
// messages were: the number on a barrier repeats the last one stored.
type leader struct {
	nc     *nats.Conn
	keeper *keeper
	queue  *queue
	names  wire.Stream
	routes string // hash
	pulse  time.Duration
	stats  *stats
	log    *slog.Logger
	name   string // of this run, random

	keepEvery time.Duration // between two pulses kept as long as events
	refused   *refusals
	// lost is called when a term begins: what came before may not be in the stream.
	lost func()

	stopping chan struct{} // closed when nothing comes from Redis any more
	leads    atomic.Bool   // what comes from Redis is this bridge's to write

	// Owned by the goroutine.
	term     uint64 // 0: does not lead
	epoch    string
	number   uint64 // of the last message made
	acked    uint64 // highest sequence acknowledged
	assigned uint64 // highest sequence given to a message
	window   window
	attempt  uint64 // tells acknowledgements of now from those of before a barrier
	inbox    string
	acks     chan *nats.Msg
	waiting  bool // was told

	digest    wire.Digest
	kept      time.Time // of the last pulse kept as long as events
	lastPulse uint64    // sequence of the last pulse known to be stored
}

// run leads, or waits to, until the context ends.
func (l *leader) run(ctx context.Context) error {
	l.inbox = nats.NewInbox()
	l.acks = make(chan *nats.Msg, 4*maxWindow)
	sub, err := l.nc.ChanSubscribe(l.inbox+".>", l.acks)
	if err != nil {
		return fmt.Errorf("subscribe acknowledgements: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be closed already
	for l.establish(ctx) {
		err := l.write(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			l.stats.rewinds.Add(1)
			l.log.Warn("writing to the stream is interrupted", "unacknowledged", l.window.len(), "error", err)
		}
	}
	return nil
}

// establish returns true once this bridge leads and the stream's end is known;
// false when the context ended.
func (l *leader) establish(ctx context.Context) bool {
	var backoff redisconn.Backoff
	told := false
	for {
		if l.term == 0 && l.isStopping() {
			return false
		}
		e, err := l.look(ctx)
		if err == nil {
			term, epoch, ok := l.decide(e)
			if !ok {
				if sleep(ctx, lookAgain) != nil {
					return false
				}
				continue
			}
			if err = l.barrier(ctx, e, term, epoch); err == nil {
				return true
			}
		}
		if ctx.Err() != nil {
			return false
		}
		if !told {
			told = true
			l.log.Warn("the stream cannot be written now, trying on", "error", err)
		}
		if backoff.Sleep(ctx) != nil {
			return false
		}
	}
}

func (l *leader) isStopping() bool {
	select {
	case <-l.stopping:
		return true
	default:
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *leader) look(ctx context.Context) (end, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return l.keeper.readEnd(ctx)
}

// decide tells from the end of the stream whether this bridge may write a
// barrier, and of which term and epoch.
func (l *leader) decide(e end) (term uint64, epoch string, ok bool) {
	other := e.pulse.Bridge != "" && e.pulse.Bridge != l.name
	if l.term != 0 {
		newest := max(e.stamp.Term, e.pulse.Term)
		switch {
		case other && e.pulse.Term >= l.term || !other && newest > l.term && e.pulse.Term < newest:
			l.resign(e)
		case newest > l.term:
			// A barrier of ours was stored and its acknowledgement lost.
			l.begin(newest, e.pulse.Epoch, e.stamp.Number)
			l.settle(e)
			return l.term, l.epoch, true
		case e.seq >= l.acked && (e.stamp.Term == l.term || e.stamp == (wire.Stamp{}) && e.seq <= l.assigned):
			l.settle(e)
			return l.term, l.epoch, true
		default:
			l.log.Error("the stream has lost what it had acknowledged, or began anew: new epoch", "acknowledged", l.acked, "end", e.seq)
			return max(newest, l.term) + 1, newEpoch(), true
		}
	}
	if other && e.age < aliveFor {
		if !l.waiting {
			l.waiting = true
			l.log.Info("another bridge leads, waiting", "leader", e.pulse.Bridge, "term", e.pulse.Term)
		}
		return 0, "", false
	}
	epoch = e.pulse.Epoch
	if epoch == "" {
		epoch = newEpoch()
	}
	return max(e.stamp.Term, e.pulse.Term) + 1, epoch, true
}

// newEpoch names a new life of the stream.
func newEpoch() string { return strings.ToLower(rand.Text()[:10]) }

// resign gives up: another bridge writes now, and what this one has not
// written yet, it will not.
func (l *leader) resign(e end) {
	l.log.Warn("another bridge has taken over", "leader", e.pulse.Bridge, "its term", e.pulse.Term, "our term", l.term)
	l.leads.Store(false)
	lost := l.window.clear() + l.queue.remove(func(*message) bool { return true })
	l.stats.dropped[steppedDown].Add(uint64(lost))
	l.term, l.acked, l.assigned = 0, 0, 0
	l.stats.inFlight.Store(0)
}

// settle takes out of the window what the stream has.
func (l *leader) settle(e end) {
	n := 0
	if e.stamp.Term == l.term {
		n = l.window.dropTo(e.stamp.Number)
	} else {
		// All of it has expired; in one term numbers and sequences run in step.
		n = l.window.dropSeq(e.seq)
	}
	l.stats.stored.Add(uint64(n))
}

// begin starts a term: what waits in the window gets numbers of it.
func (l *leader) begin(term uint64, epoch string, number uint64) {
	l.term, l.epoch, l.number = term, epoch, number
	l.window.renumber(&l.number)
}

// barrier writes the marked pulse after the end of the stream and waits for its
// acknowledgement.
func (l *leader) barrier(ctx context.Context, e end, term uint64, epoch string) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	// The last number stored: what is left in the window was not.
	number := uint64(0)
	if term == l.term {
		number = l.number - uint64(l.window.len())
	}
	p := l.newPulse(term, epoch, true)
	if term == l.term {
		p.Since = l.lastPulse
	} else if epoch == e.pulse.Epoch {
		p.Since = e.pulseSeq
	}
	m := nats.NewMsg(l.names.Log() + wire.PulseToken)
	m.Data = p.Encode()
	m.Header.Set(wire.Header, wire.Stamp{Term: term, Number: number}.String())
	m.Header.Set(headerExpected, strconv.FormatUint(e.seq, 10))
	answer, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return fmt.Errorf("write barrier: %w", err)
	}
	a, err := parseAck(answer)
	if err != nil {
		return fmt.Errorf("write barrier: %w", err)
	}
	if term != l.term {
		l.begin(term, epoch, number)
		if e.pulse.Epoch != "" {
			l.lost() // between the last leader and this one
		}
		l.log.Info("leading", "term", term, "epoch", epoch, "sequence", a.Seq)
	} else {
		l.log.Info("writing to the stream again", "term", term, "sequence", a.Seq, "to send again", l.window.len())
	}
	l.acked, l.assigned, l.waiting = a.Seq, a.Seq, false
	l.lastPulse, l.kept = a.Seq, p.Time
	l.digest.Reset() // nodes compare everything up to here
	l.leads.Store(true)
	// Live events are worthless when late.
	late := l.queue.remove(func(m *message) bool { return m.live })
	l.stats.dropped[noNATS].Add(uint64(late))
	return nil
}

func (l *leader) newPulse(term uint64, epoch string, marked bool) wire.Pulse {
	return wire.Pulse{Epoch: epoch, Term: term, Bridge: l.name, Time: time.Now().UTC(), Marked: marked, Routes: l.routes}
}

// ack is JetStream's answer to a publish.
type ack struct {
	Seq   uint64 `json:"seq"`
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// plainAck reads the answer to a message that was stored, as the server writes it:
// {"stream":"NAME","seq":N}. It returns 0 for any other. (Package json took an eighth
// of the bridge's time.)
func plainAck(data []byte) (seq uint64) {
	if !bytes.HasPrefix(data, []byte(`{"stream":"`)) {
		return 0
	}
	_, rest, _ := bytes.Cut(data, []byte(`","seq":`))
	digits, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return 0
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0 // there is more in it than these two
	}
	return seq
}

// parseAck reads an answer of the stream; an error of the stream's is one here.
func parseAck(m *nats.Msg) (ack, error) {
	var a ack
	if s := m.Header.Get("Status"); s != "" {
		return a, fmt.Errorf("no stream answers (%s)", s)
	}
	if a.Seq = plainAck(m.Data); a.Seq != 0 {
		return a, nil
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return a, fmt.Errorf("answer %.100q: %w", m.Data, err)
	}
	if a.Error != nil {
		return a, fmt.Errorf("JetStream error %d: %s", a.Error.Code, a.Error.Description)
	}
	return a, nil
}
