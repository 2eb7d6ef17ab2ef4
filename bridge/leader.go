package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/redisconn"
	"sluice/shared/wire"
)

const (
	// askLimit bounds one look at the stream, and one answer to a barrier.
	askLimit = 3 * time.Second
	// pulseTTL is how long an ordinary pulse is kept. Marked ones are kept as
	// long as events.
	pulseTTL = "20s"
)

// leader decides whether this bridge leads and, while it does, is the one
// writer to the stream (see writer.go). It runs on one goroutine.
//
// The stream itself is the judge. Every message names the sequence it expects
// before it; a bridge begins a term, and goes on after any trouble, with a
// barrier: a marked pulse, and nothing else before its acknowledgement. Once a
// barrier is stored, nothing written before it by anybody can be stored any
// more (see barrier.go), and the stamp at the end of the stream tells which of the
// bridge's own messages were: the number on a barrier repeats the last one stored.
//
// So no lock or lease elsewhere is needed to elect a leader. Who writes the barrier
// is it; the stream takes only one.
type leader struct {
	nc      *nats.Conn
	keeper  *keeper
	queue   *queue
	names   wire.Stream
	routes  string // hash
	plan    string // likewise
	pulse   time.Duration
	stats   *stats
	log     *slog.Logger
	name    string // of this run, random
	link    link
	refused *refusals

	keepEvery time.Duration // between two pulses kept as long as events

	stopping chan struct{} // closed when nothing comes from Redis any more
	yield    chan struct{} // capacity 1: give way, another bridge can go on
	wake     chan struct{} // capacity 1: look at the stream at once
	leads    atomic.Bool
	state    atomic.Pointer[state]
	blind    atomic.Bool // began to lead without a link to Redis

	// Owned by the goroutine.
	term     uint64 // 0: does not lead
	epoch    string
	number   uint64 // of the last message made
	acked    uint64 // highest sequence acknowledged
	assigned uint64 // highest sequence given to a message, padding and barriers included
	window   window
	attempt  uint64 // tells acknowledgements of now from those of before a barrier
	inbox    string
	acks     chan *nats.Msg
	heard    time.Time     // when the last pulse was made that is acknowledged
	awake    time.Time     // when the writer last looked at the clock
	place    position      // up to where everything from Redis is handled
	cut      bool          // after that the link was lost
	waited   time.Duration // by the last nonce of ours that had its turn, 0 once told

	leaving  bool      // writes the rest, and then no more
	rest     []message // of the queue, when leaving
	through  uint64    // what is handled with the rest
	farewell bool      // the last pulse is on its way

	seen        uint64    // sequence of the last leader's last pulse
	since       time.Time // when that was seen first
	padded      uint64    // sequence of another bridge's padding at the end
	paddedSince time.Time // when that was seen first
	cold        time.Time // since when it is not known where the leader is

	known  known     // of the stream, from all looks
	doubt  time.Time // since when the stream seems to have lost something
	tried  uint64    // term of a barrier that was written and not acknowledged
	shaped bool      // the stream is as the settings say

	digest    wire.Digest
	kept      time.Time // of the last pulse kept as long as events
	lastPulse uint64    // sequence of the last pulse known to be stored
}

// link is what the leader asks of the source.
type link interface {
	linked() bool
	server() string // its name, "" if that is not known
	shards() bool   // messages come from several servers
	renew(why string)
	now() // publish a nonce at once
}

func newLeader(nc *nats.Conn, q *queue, cfg *Config, from link, log *slog.Logger) *leader {
	l := &leader{
		nc: nc, queue: q, link: from, log: log, name: newEpoch(),
		names: cfg.Stream, routes: cfg.Routes.Hash(), pulse: cfg.Bridge.Pulse,
		keepEvery: max(time.Second, cfg.Routes.MaxAge()/keptPulses),
		stopping:  make(chan struct{}), yield: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	l.setState(state{})
	return l
}

// run leads, or waits to, until the context ends or, after stopping was closed, all
// is written.
func (l *leader) run(ctx context.Context) error {
	l.inbox = l.nc.NewInbox() // with the bridges' own prefix
	l.acks = make(chan *nats.Msg, 4*maxWindow)
	sub, err := l.nc.ChanSubscribe(l.inbox+".>", l.acks)
	if err != nil {
		return fmt.Errorf("subscribe acknowledgements: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection may be closed already
	peers, err := l.listen()
	if err != nil {
		return err
	}
	defer peers()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.giveWay(ctx) })
	defer wg.Wait()
	defer stop()
	for l.establish(ctx) {
		switch err := l.write(ctx); {
		case err == nil:
			l.retire()
			if l.isStopping() {
				return nil
			}
		case ctx.Err() == nil:
			l.stats.rewinds.Add(1)
			l.log.Warn("writing to the stream is interrupted", "unacknowledged", l.window.len(), "error", err)
		}
	}
	return nil
}

// establish returns true once this bridge leads and the stream's end is known;
// false when the context ended.
func (l *leader) establish(ctx context.Context) bool {
	backoff := redisconn.Backoff{Max: maxRetry}
	told := false
	for {
		if l.term == 0 && l.isStopping() {
			return false
		}
		e, err := l.look(ctx)
		if err == nil {
			backoff.Reset()
			if l.term == 0 {
				l.standBy(e)
			}
			term, epoch, ok := l.decide(e)
			if !ok {
				l.pause(ctx, e)
				if ctx.Err() != nil {
					return false
				}
				continue
			}
			if err = l.barrier(ctx, e, term, epoch); err == nil {
				return true
			}
			if errors.Is(err, errWrongSequence) {
				l.pause(ctx, e) // somebody was faster
				continue
			}
		} else {
			l.seen = 0 // who does not see the stream knows nothing of the leader
		}
		if ctx.Err() != nil {
			return false
		}
		s := *l.state.Load()
		s.hot, s.trouble = false, err
		l.setState(s)
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

func (l *leader) look(ctx context.Context) (end, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	asked := time.Now()
	e, err := l.keeper.readEnd(ctx)
	l.since = l.since.Add(time.Since(asked)) // while the stream did not answer, nobody was observed
	return e, err
}

// newEpoch names a new life of the stream.
func newEpoch() string { return strings.ToLower(rand.Text()[:10]) }

// resign gives up: another bridge writes now. It stands by with what it has not
// written.
func (l *leader) resign(e end) {
	l.log.Warn("another bridge has taken over", "leader", e.pulse.Bridge, "its term", e.pulse.Term, "our term", l.term)
	list := make([]message, 0, l.window.len()+len(l.rest))
	for i := range l.window.len() {
		list = append(list, *l.window.at(i))
	}
	list = append(list, l.rest...)
	l.retire()
	l.queue.back(list)
}

// retire ends this bridge's term.
func (l *leader) retire() {
	l.leads.Store(false)
	l.shaped, l.tried = false, 0
	l.refused.clear()
	l.window.clear()
	l.term, l.acked, l.assigned = 0, 0, 0
	l.leaving, l.farewell, l.rest, l.waited = false, false, nil, 0
	l.stats.inFlight.Store(0)
	l.setState(state{})
}

// settle takes out of the window what the stream has.
func (l *leader) settle(e end) {
	for l.window.len() > 0 && l.window.at(0).number <= e.stamp.Number {
		l.countStored(l.window.at(0))
		l.window.pop()
	}
}

// countStored counts a message of the window that the stream has.
func (l *leader) countStored(m *message) {
	switch {
	case m.pulse != nil:
	case m.mark != nil:
		l.stats.marks.Add(1)
	default:
		l.stats.stored.Add(1)
		l.stats.storedBytes.Add(uint64(len(m.payload)))
	}
}

// begin starts a term: what waits in the window gets numbers of it.
func (l *leader) begin(term uint64, epoch string, number uint64) {
	l.term, l.epoch, l.number = term, epoch, number
	l.window.renumber(&l.number)
}

func (l *leader) newPulse(term uint64, epoch string, marked bool) wire.Pulse {
	return wire.Pulse{
		Epoch: epoch, Term: term, Bridge: l.name, Time: time.Now().UTC(), Marked: marked,
		Routes: l.routes, Patterns: l.plan, Redis: l.link.server(),
	}
}
