package ssenode

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/ssenode/engine"
)

const (
	// batchSize is how many messages the dispatcher takes at a time: enough that
	// under load frames leave joined, few enough that nobody waits long.
	batchSize = 512
	// silentAfter is how long pulses may stay away before the stream is asked.
	silentAfter = 3 * time.Second
)

// dispatcher is the one goroutine through which every message of a node goes:
// it checks each against the chain of its channel (chain.go), turns it into a
// frame once, gives it its number, keeps it in the topic's ring and hands it to
// the loops that have clients for it. A topic of which something may be missing
// is begun anew (relearn.go), and its clients replay.
type dispatcher struct {
	hub     *hub
	loops   []*loop
	stats   *stats
	log     *slog.Logger
	history *history
	learner *learner
	fetcher *fetcher
	taps    taps
	calls   chan func()   // run on the dispatcher's goroutine
	kick    chan struct{} // capacity 1: the connection may have been made anew

	ringBytes, ringTotal int64
	ringAge              time.Duration

	system  [2]*nats.Subscription // pulses and gap marks
	epoch   *atomic.Pointer[string]
	marks   atomic.Pointer[[]*mark] // of the stream, oldest first; replaced when it changes
	head    atomic.Uint64           // sequence up to which everything was checked; written by the dispatcher
	started atomic.Bool             // epoch and marks are known
	found   chan struct{}           // closed when they are
	helpers sync.WaitGroup          // goroutines of checks and probes
	life    atomic.Uint64           // counts the epochs seen

	// Owned by the dispatcher's goroutine.
	newest     uint64 // highest sequence dispatched
	markTail   uint64 // sequence of the last gap mark
	reconnects uint64 // of the NATS connection, when last looked
	checking   bool
	again      bool                // check once more when done
	flooded    bool                // the inbox was full since it began
	stale      []*topic            // that are still to be begun anew in it
	answer     *checked            // it is done but for these
	pulses     []*nats.Msg         // that came meanwhile
	unlearned  []*topic            // to be learned when done
	early      int                 // bytes of messages of topics that are not learned
	headTime   time.Time           // of the pulse at head, by the bridge's clock
	term       uint64              // of that pulse
	pulsed     time.Time           // when a pulse came last, or the stream was asked
	patient    time.Time           // until then messages may be on their way that the stream has
	doubted    time.Time           // when a pulse was last doubted
	unsettled  map[*topic]struct{} // whose place is known, and that wait for a pulse
	throttled  throttled
	doubts     doubts
	rings      ringLog
	out        [][]op // by loop
	outSize    []int64
	last       *frame // to share the bytes of a message that came by two subscriptions
	routes     string // hash of ROUTES last warned of
	work       context.Context
}

func newDispatcher(n *Node, h *hub) *dispatcher {
	d := &dispatcher{
		hub: h, stats: n.stats, log: n.log, history: n.history, epoch: &n.epoch,
		ringBytes: n.cfg.SSENode.RingBytes, ringTotal: n.cfg.SSENode.RingTotal, ringAge: n.cfg.SSENode.RingAge,
		taps:  taps{out: make(chan tapReport, tapQueue)},
		calls: make(chan func()), found: make(chan struct{}), unsettled: map[*topic]struct{}{}, doubts: newDoubts(),
	}
	d.marks.Store(new([]*mark))
	d.doubts.publish = n.tellDoubt
	d.learner = &learner{d: d, kick: make(chan struct{}, 1)}
	h.fresh = d.learner.add
	return d
}

// run ends with the context.
func (d *dispatcher) run(ctx context.Context) {
	d.work = ctx
	defer d.helpers.Wait()
	d.reconnects = d.hub.nc.Stats().Reconnects
	d.hub.mu.RLock()
	d.check("start")
	d.hub.mu.RUnlock()
	d.pulsed = time.Now()
	tick := time.NewTicker(engine.TickEvery)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	batch := make([]*nats.Msg, 0, batchSize)
	for {
		var stale chan struct{}
		if len(d.stale) > 0 {
			stale = always
		}
		select {
		case <-stale:
			d.hub.mu.RLock()
			d.beginSome()
			d.hub.mu.RUnlock()
			d.flush()
		case m := <-d.hub.inbox:
			batch = append(batch[:0], m)
		more:
			for len(batch) < batchSize {
				select {
				case m := <-d.hub.inbox:
					batch = append(batch, m)
				default:
					break more
				}
			}
			d.dispatch(batch)
			clear(batch)
		case <-d.kick:
			d.dispatch(nil)
		case x := <-d.doubts.queue:
			d.heardDoubt(x)
			d.flush()
		case f := <-d.calls:
			d.hub.mu.RLock()
			f()
			d.hub.mu.RUnlock()
			d.flush()
		case <-timer.C:
			d.hub.mu.RLock()
			d.throttled.due(d, time.Now())
			d.hub.mu.RUnlock()
			d.flush()
		case now := <-tick.C:
			d.tick(now)
		case <-ctx.Done():
			return
		}
		d.throttled.arm(timer)
	}
}

// call runs f on the dispatcher's goroutine, under the hub's read lock, and
// waits until it is done. It does not run once the context has ended.
func (d *dispatcher) call(ctx context.Context, f func()) {
	done := make(chan struct{})
	select {
	case d.calls <- func() { f(); close(done) }:
		<-done
	case <-ctx.Done():
	}
}

func (d *dispatcher) tick(now time.Time) {
	d.rings.expire(now.Add(-d.ringAge))
	d.stats.ringBytes.Store(d.rings.total)
	d.hub.sweep(now)
	d.fetcher.expire(now)
	d.forgetMarks(now)
	d.taps.expire(now)
	d.tellAgain(now)
	if now.Sub(d.pulsed) > silentAfter && !d.checking && d.hub.nc.IsConnected() {
		d.pulsed = now
		d.probe()
	}
}

func (d *dispatcher) dispatch(batch []*nats.Msg) {
	now := time.Now()
	system, bytes := 0, 0
	d.hub.mu.RLock()
	d.watch()
	for _, m := range batch {
		bytes += len(m.Data)
		if d.receive(m, now) {
			system++
		}
	}
	d.hub.mu.RUnlock()
	d.stats.messages.Add(uint64(len(batch) - system))
	d.stats.system.Add(uint64(system))
	d.stats.bytesIn.Add(uint64(bytes))
	d.flush()
}

// watch finds out whether messages may have been lost on the way to here. Both
// signs are seen before any message that came after the loss is looked at: a
// reconnection is counted before subscriptions are sent again, and the inbox,
// of which at most a batch has been taken since the last look, is still almost
// full if it was full at any time.
func (d *dispatcher) watch() {
	if n := d.hub.nc.Stats().Reconnects; n != d.reconnects {
		d.reconnects = n
		d.missed("NATS connection was lost")
	}
	if len(d.hub.inbox) > cap(d.hub.inbox)-2*batchSize {
		d.stats.slow.Add(1)
		switch {
		case !d.checking:
			d.missed("too slow for the messages that come")
		case !d.flooded: // told once in a check
			d.flooded, d.again = true, true
			d.markLive(gapDropped)
		}
	}
}

// receive handles one message in its order. It tells whether it is one of the bridge
// to the nodes, which every node gets.
func (d *dispatcher) receive(m *nats.Msg, now time.Time) (system bool) {
	switch m.Sub {
	case d.system[0]:
		d.pulse(m)
		return true
	case d.system[1]:
		d.gapMark(m)
		return true
	}
	if t := d.hub.topicOf(m); t != nil { // else of a subscription that has ended
		if d.taps.list.Load() != nil {
			d.tapped(t, m, now)
		} else {
			d.message(t, m, now)
		}
	}
	return false
}

// give gives a frame its number and hands it on.
func (d *dispatcher) give(t *topic, f *frame, now time.Time) {
	d.hub.n++
	f.n = d.hub.n
	d.last = f
	d.newest = max(d.newest, f.seq)
	if f.old {
		t.chain.late = true
	}
	d.rings.add(t, f, now, d.ringBytes, d.ringTotal)
	for i := range t.byLoop {
		if t.byLoop[i].sessions > 0 {
			d.out[i] = append(d.out[i], op{topic: t, frame: f})
			d.outSize[i] += f.size()
		}
	}
}

// tell runs f on every loop, in the order of frames.
func (d *dispatcher) tell(f func(l *loop)) {
	for i, l := range d.loops {
		d.out[i] = append(d.out[i], op{call: func() { f(l) }})
	}
}

func (d *dispatcher) flush() {
	for i, l := range d.loops {
		l.post(d.out[i], d.outSize[i], place{d.hub.n, d.newest})
		clear(d.out[i])
		d.out[i], d.outSize[i] = d.out[i][:0], 0
	}
}
