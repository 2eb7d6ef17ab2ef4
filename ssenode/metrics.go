package ssenode

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/ssenode/auth"
)

// stats counts what a node does; loops and the dispatcher add to it, Prometheus
// reads it.
type stats struct {
	log *slog.Logger

	connects   atomic.Uint64
	closes     [reasons]atomic.Uint64
	refused    atomic.Uint64 // requests answered with an error
	handshakes atomic.Uint64 // of TLS, that failed
	nobody     [len(auth.Codes)]atomic.Uint64
	forbidden  atomic.Uint64
	messages   atomic.Uint64
	events     atomic.Uint64
	bytes      atomic.Uint64
	dropped    [drops]atomic.Uint64
	ringBytes  atomic.Int64
	routes     atomic.Uint64 // pulses that announced other ROUTES than ours
	polls      atomic.Uint64 // long polls begun
	checks     atomic.Uint64 // comparisons with the stream
	relearned  atomic.Uint64 // topics begun anew
	slow       atomic.Uint64 // times the inbox was about full
	gapEvents  [len(gapReasons)]atomic.Uint64
}

// gapReasons are those of `event: gap`, in the order of stats.gapEvents.
var gapReasons = [...]string{gapExpired, gapRecreated, gapUnknownID, gapUpstream, gapSlow, gapDropped}

// gaps counts a gap event.
func (s *stats) gaps(reason string) {
	for i, r := range gapReasons {
		if r == reason {
			s.gapEvents[i].Add(1)
		}
	}
}

// unauthorized counts a refused request.
func (s *stats) unauthorized(code auth.Code) {
	for i, c := range auth.Codes {
		if c == code {
			s.nobody[i].Add(1)
		}
	}
}

// out counts events begun and bytes taken by the kernel.
func (s *stats) out(events, bytes int) {
	if events > 0 {
		s.events.Add(uint64(events))
	}
	s.bytes.Add(uint64(bytes))
}

func (s *stats) closed(r reason) { s.closes[r].Add(1) }

// open is how many streams there are.
func (s *stats) open() uint64 {
	var closed uint64
	for i := range s.closes {
		closed += s.closes[i].Load()
	}
	return s.connects.Load() - closed
}

func (s *stats) debugClose(sess *session, r reason, cause error) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("stream closed", "clientId", sess.clientID, "reason", r.String(), "cause", cause)
	}
}

func (s *stats) register(reg prometheus.Registerer, h *hub, asked *atomic.Uint64) {
	counter := func(name, help string, labels prometheus.Labels, v *atomic.Uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_ssenode_" + name, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_ssenode_" + name, Help: help}, f))
	}
	gauge("connections", "Streams open now.", func() float64 { return float64(s.open()) })
	counter("connects_total", "Streams opened.", nil, &s.connects)
	for r := range reasons {
		counter("closes_total", "Streams closed, by reason.", prometheus.Labels{"reason": r.String()}, &s.closes[r])
	}
	counter("refused_requests_total", "Requests answered with an error.", nil, &s.refused)
	for i, code := range auth.Codes {
		counter("unauthorized_total", "Requests without a token that counts, by code.", prometheus.Labels{"code": string(code)}, &s.nobody[i])
	}
	counter("forbidden_total", "Requests for more than their bearer may have.", nil, &s.forbidden)
	counter("messages_in_total", "Messages received from NATS.", nil, &s.messages)
	counter("events_out_total", "Events written to clients.", nil, &s.events)
	counter("bytes_out_total", "Bytes written to streams.", nil, &s.bytes)
	for d := range drops {
		counter("dropped_total", "Events that did not reach somebody, by reason.", prometheus.Labels{"reason": d.String()}, &s.dropped[d])
	}
	for i, reason := range gapReasons {
		counter("gaps_total", "Gap events written to clients, by reason.", prometheus.Labels{"reason": reason}, &s.gapEvents[i])
	}
	counter("polls_total", "Long polls begun.", nil, &s.polls)
	counter("history_requests_total", "Requests made to the stream.", nil, asked)
	counter("checks_total", "Comparisons with the stream.", nil, &s.checks)
	counter("relearned_total", "Channels and patterns that missed something, or may have, and were begun anew from the stream.", nil, &s.relearned)
	counter("slow_consumer_total", "Times that messages came faster than the node could take them.", nil, &s.slow)
	counter("routes_mismatch_total", "Pulses of a bridge with other ROUTES.", nil, &s.routes)
	gauge("ring_bytes", "Recent events kept in memory.", func() float64 { return float64(s.ringBytes.Load()) })
	gauge("nats_subscriptions", "Channels and patterns subscribed at NATS.", func() float64 { n, _ := h.counts(); return float64(n) })
	gauge("watched_channels", "Channels and patterns that have clients.", func() float64 { _, n := h.counts(); return float64(n) })
	gauge("nats_connected", "1 while connected to NATS.", func() float64 {
		if h.nc.IsConnected() {
			return 1
		}
		return 0
	})
}
