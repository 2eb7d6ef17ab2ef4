package ssenode

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/wire"
	"sluice/ssenode/engine"
)

// batchSize is how many messages the dispatcher takes at a time: enough that
// under load frames leave joined, few enough that nobody waits long.
const batchSize = 512

// dispatcher is the one goroutine through which every message of a node goes:
// it turns each into a frame once, gives it its number, keeps it in the topic's
// ring and hands it to the loops that have clients for it.
type dispatcher struct {
	hub   *hub
	loops []*loop
	stats *stats
	log   *slog.Logger

	ringBytes, ringTotal int64
	ringAge              time.Duration

	pulses    *nats.Subscription
	learned   chan learned            // a pulse read from the stream
	suspect   atomic.Bool             // the connection was lost: the epoch may be another now
	epochText *atomic.Pointer[string] // what the loops see of epoch
	slow      slowSubs

	// Owned by the dispatcher's goroutine.
	epoch   string // "" while unknown: frames go without id
	seq     uint64 // newest sequence seen
	rings   ringLog
	out     [][]op // by loop
	outSize []int64
	last    *frame // to share the bytes of a message that came by two subscriptions
	routes  string // hash of ROUTES last warned of
}

// learned is a pulse read from the stream rather than heard.
type learned struct {
	pulse wire.Pulse
	seq   uint64
}

func (d *dispatcher) run(ctx context.Context) {
	tick := time.NewTicker(engine.TickEvery)
	defer tick.Stop()
	batch := make([]*nats.Msg, 0, batchSize)
	for {
		select {
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
		case p := <-d.learned:
			if d.suspect.Swap(false) {
				d.setEpoch("")
			}
			if d.epoch == "" { // a live pulse is newer than any that was read
				d.adopt(p.pulse, p.seq)
			}
		case now := <-tick.C:
			d.rings.expire(now.Add(-d.ringAge))
			d.stats.ringBytes.Store(d.rings.total)
			d.stats.dropped[slowConsumer].Add(d.slow.count())
			d.hub.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

func (d *dispatcher) dispatch(batch []*nats.Msg) {
	d.stats.messages.Add(uint64(len(batch)))
	if d.suspect.Swap(false) {
		d.setEpoch("")
	}
	now := time.Now()
	d.hub.mu.RLock()
	for _, m := range batch {
		if m.Sub == d.pulses {
			d.pulse(m)
		} else if t := d.hub.bySub[m.Sub]; t != nil { // else of a subscription that has ended
			d.message(t, m, now)
		}
	}
	d.hub.mu.RUnlock()
	for i, l := range d.loops {
		if len(d.out[i]) > 0 {
			l.post(d.out[i], d.outSize[i])
			clear(d.out[i])
			d.out[i], d.outSize[i] = d.out[i][:0], 0
		}
	}
}

func (d *dispatcher) message(t *topic, m *nats.Msg, now time.Time) {
	subject := m.Subject[len(d.hub.stream.Live()):]
	if subject == "" || subject[0] == '$' {
		return // the system's own, caught by a wildcard
	}
	f := d.frame(t, subject, m)
	if f == nil {
		return
	}
	d.hub.n++
	f.n = d.hub.n
	d.last = f
	d.rings.add(t, f, now, d.ringBytes, d.ringTotal)
	for i, clients := range t.byLoop {
		if clients > 0 {
			d.out[i] = append(d.out[i], op{topic: t, frame: f})
			d.outSize[i] += f.size()
		}
	}
}

// frame encodes a message, or returns nil when there is nothing to deliver.
func (d *dispatcher) frame(t *topic, subject string, m *nats.Msg) *frame {
	seq := sequence(m)
	if seq != 0 {
		if seq < d.seq && d.epoch != "" {
			// The stream began anew and its pulse was missed.
			d.log.Warn("sequence of the stream went back", "from", d.seq, "to", seq)
			d.setEpoch("")
		}
		d.seq = seq
	}
	wrap := t.wraps.Load() > 0
	if d.last != nil && seq != 0 && d.last.seq == seq && d.last.subject == subject && (d.last.wrapped != nil || !wrap) {
		f := *d.last
		return &f
	}
	name := t.name
	if !t.literal {
		var err error
		if name, err = channel.FromSubject(subject); err != nil {
			d.stats.dropped[badSubject].Add(1)
			return nil
		}
	}
	ev, err := event.Parse(m.Data, t.formatOf(subject, d.hub.routes))
	if err != nil {
		d.stats.dropped[notEnvelope].Add(1)
		d.log.Debug("event dropped", "channel", name, "error", err)
		return nil
	}
	f := newFrame(wire.ID{Epoch: d.epoch, Seq: seq}, ev, name, wrap)
	f.subject = subject
	return f
}

// sequence is the message's place in the stream, 0 for one that came by
// history=off. A message republished twice has several values: the last counts.
func sequence(m *nats.Msg) uint64 {
	v := m.Header[wire.HeaderSequence]
	if len(v) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(v[len(v)-1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// pulse handles a pulse as it comes live.
func (d *dispatcher) pulse(m *nats.Msg) {
	p, err := wire.ParsePulse(m.Data)
	if err != nil {
		d.log.Warn("pulse not understood", "error", err)
		return
	}
	d.adopt(p, sequence(m))
	if own := d.hub.routes.Hash(); p.Routes != own {
		d.stats.routes.Add(1)
		if d.routes != p.Routes {
			d.routes = p.Routes
			d.log.Warn("the bridge has other ROUTES than this node", "bridge", p.Routes, "node", own)
		}
	}
}

// adopt takes over the epoch that a pulse tells.
func (d *dispatcher) adopt(p wire.Pulse, seq uint64) {
	if p.Epoch != d.epoch {
		if d.epoch != "" {
			d.log.Warn("the stream began anew", "epoch", p.Epoch, "before", d.epoch)
		} else {
			d.log.Info("stream found", "epoch", p.Epoch, "head", seq)
		}
		d.setEpoch(p.Epoch)
	}
	d.seq = seq
}

func (d *dispatcher) setEpoch(epoch string) {
	d.epoch = epoch
	d.epochText.Store(&epoch)
	d.last = nil // its id is of another epoch
}
