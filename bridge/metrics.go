package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// drop names why a message from Redis was not mirrored.
type drop uint8

const (
	queueFull   drop = iota // NATS was away or slow for too long
	tooLarge                // above the NATS server's max_payload
	nameTooLong             // the channel's subject would be
	noNATS                  // history=off while NATS was away
	drops
)

func (d drop) String() string {
	return [drops]string{"queue-full", "too-large", "name-too-long", "no-nats"}[d]
}

// kind is how exactly a bridge took over.
type kind uint8

const (
	planned kind = iota // the last leader had said farewell
	exact               // it was away
	withGap             // not exactly: clients are told
	kinds
)

func (k kind) String() string { return [kinds]string{"planned", "exact", "gap"}[k] }

// stats counts what a bridge does.
type stats struct {
	received atomic.Uint64
	stored   atomic.Uint64
	live     atomic.Uint64
	// Bytes of the payloads of these.
	receivedBytes, storedBytes, liveBytes atomic.Uint64

	marks    atomic.Uint64
	dropped  [drops]atomic.Uint64
	rewinds  atomic.Uint64
	inFlight atomic.Int64
	leaders  atomic.Uint64 // others seen to lead, one after the other

	takeovers [kinds]atomic.Uint64

	pulseTime, redisTime, queueTime, takeoverTime prometheus.Histogram
}

func newStats() *stats {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_bridge_" + name, Help: help,
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		})
	}
	return &stats{
		queueTime:    histogram("queue_seconds", "Time from publishing a mark in Redis to its turn to be written, behind all that came before it."),
		pulseTime:    histogram("pulse_seconds", "Time from writing a pulse to its acknowledgement."),
		redisTime:    histogram("redis_seconds", "Time from publishing a mark in Redis to getting it from there."),
		takeoverTime: histogram("takeover_seconds", "Time from the last leader's last pulse to this bridge's first one."),
	}
}

func (s *stats) register(reg prometheus.Registerer, b *Bridge) {
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_bridge_" + name, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_bridge_" + name, Help: help}, f))
	}
	flag := func(f func() bool) func() float64 {
		return func() float64 {
			if f() {
				return 1
			}
			return 0
		}
	}
	reg.MustRegister(s.pulseTime, s.redisTime, s.queueTime, s.takeoverTime)
	counter("received_total", "Messages taken from Redis, also while standing by.", nil, &s.received)
	counter("received_bytes_total", "Bytes of the payloads taken from Redis, also while standing by.", nil, &s.receivedBytes)
	counter("stored_total", "Messages acknowledged by the stream.", nil, &s.stored)
	counter("stored_bytes_total", "Bytes of the payloads acknowledged by the stream.", nil, &s.storedBytes)
	counter("live_total", "Messages of history=off channels sent to nodes.", nil, &s.live)
	counter("live_bytes_total", "Bytes of the payloads of history=off channels sent to nodes.", nil, &s.liveBytes)
	counter("gap_marks_total", "Gap marks acknowledged by the stream.", nil, &s.marks)
	for d := range drops {
		counter("dropped_total", "Messages not mirrored, by reason.", prometheus.Labels{"reason": d.String()}, &s.dropped[d])
	}
	for k := range kinds {
		counter("takeovers_total", "Times that this bridge took over from another one, by kind.", prometheus.Labels{"kind": k.String()}, &s.takeovers[k])
	}
	counter("leader_changes_total", "Times that another bridge was seen to lead than before.", nil, &s.leaders)
	counter("rewinds_total", "Interruptions of writing to the stream.", nil, &s.rewinds)
	counter("redis_subscriptions_total", "Times the subscription to Redis was made.", nil, &b.source.links)
	gauge("in_flight_messages", "Messages under way to the stream.", func() float64 { return float64(s.inFlight.Load()) })
	gauge("queue_messages", "Messages waiting for the stream, or kept while standing by.", func() float64 { n, _ := b.queue.load(); return float64(n) })
	gauge("queue_bytes", "Bytes waiting for the stream, or kept while standing by.", func() float64 { _, n := b.queue.load(); return float64(n) })
	gauge("max_queue_bytes", "Bytes that may wait for the stream: BRIDGE_QUEUE_BYTES.", func() float64 { return float64(b.queue.max) })
	gauge("leading", "1 while this bridge writes to the stream.", flag(func() bool { s := b.leader.state.Load(); return s.leads && s.trouble == nil }))
	gauge("standby_hot", "1 while this bridge could take over exactly where the leader stops.", flag(func() bool { return b.leader.state.Load().hot }))
	gauge("redis_connected", "1 while subscribed to Redis.", flag(b.source.linked))
	gauge("nats_connected", "1 while connected to NATS.", flag(b.nc.IsConnected))
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "sluice_bridge_nats_reconnects_total", Help: "Times the connection to NATS was made again.",
	}, func() float64 { return float64(b.nc.Stats().Reconnects) }))
}
