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
	steppedDown             // waited here when another bridge took over
	drops
)

func (d drop) String() string {
	return [drops]string{"queue-full", "too-large", "name-too-long", "no-nats", "stepped-down"}[d]
}

// stats counts what a bridge does.
type stats struct {
	received atomic.Uint64
	stored   atomic.Uint64
	live     atomic.Uint64
	marks    atomic.Uint64
	dropped  [drops]atomic.Uint64
	rewinds  atomic.Uint64
	inFlight atomic.Int64

	pulseTime prometheus.Histogram
}

func newStats() *stats {
	return &stats{pulseTime: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "sluice_bridge_pulse_seconds",
		Help:    "Time from writing a pulse to its acknowledgement.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2},
	})}
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
	reg.MustRegister(s.pulseTime)
	counter("received_total", "Messages taken from Redis while leading.", nil, &s.received)
	counter("stored_total", "Messages acknowledged by the stream.", nil, &s.stored)
	counter("live_total", "Messages of history=off channels sent to nodes.", nil, &s.live)
	counter("gap_marks_total", "Gap marks acknowledged by the stream.", nil, &s.marks)
	for d := range drops {
		counter("dropped_total", "Messages not mirrored, by reason.", prometheus.Labels{"reason": d.String()}, &s.dropped[d])
	}
	counter("rewinds_total", "Interruptions of writing to the stream.", nil, &s.rewinds)
	counter("redis_subscriptions_total", "Times the subscription to Redis was made.", nil, &b.source.links)
	gauge("in_flight_messages", "Messages under way to the stream.", func() float64 { return float64(s.inFlight.Load()) })
	gauge("queue_messages", "Messages waiting for the stream.", func() float64 { n, _ := b.queue.load(); return float64(n) })
	gauge("queue_bytes", "Bytes waiting for the stream.", func() float64 { _, n := b.queue.load(); return float64(n) })
	gauge("leading", "1 while this bridge writes to the stream.", flag(b.leader.leads.Load))
	gauge("redis_connected", "1 while subscribed to Redis.", flag(b.source.up.Load))
	gauge("nats_connected", "1 while connected to NATS.", flag(b.nc.IsConnected))
}
