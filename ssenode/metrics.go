package ssenode

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/shared/control"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

// stats counts what a node does; loops and the dispatcher add to it, Prometheus
// reads it.
type stats struct {
	log   *slog.Logger
	diary diary

	connects    atomic.Uint64
	closes      [reasons]atomic.Uint64
	refused     atomic.Uint64 // requests answered with an error
	handshakes  atomic.Uint64 // of TLS, that failed
	nobody      [len(auth.Codes)]atomic.Uint64
	forbidden   atomic.Uint64
	messages    atomic.Uint64 // of channels
	system      atomic.Uint64 // pulses and gap marks
	bytesIn     atomic.Uint64
	events      atomic.Uint64
	bytes       atomic.Uint64
	dropped     [drops]atomic.Uint64
	ringBytes   atomic.Int64
	routes      atomic.Uint64 // pulses that announced other ROUTES than ours
	polls       atomic.Uint64 // long polls begun
	checks      atomic.Uint64 // comparisons with the stream
	relearned   atomic.Uint64 // topics begun anew
	doubts      atomic.Uint64 // told to other nodes
	slow        atomic.Uint64 // times the inbox was about full
	asked       atomic.Uint64 // by nodes
	refusedAsks [len(askRefusals)]atomic.Uint64
	refreshed   atomic.Uint64 // streams of which POST /refresh was told here
	ignored     [ignorances]atomic.Uint64
	// Channels that were added to streams of this node, or taken away.
	subscribed, unsubscribed atomic.Uint64
	liveRefused              [liveRefusals]atomic.Uint64
	gapEvents                [len(gapReasons)]atomic.Uint64
	reads                    [sources]atomic.Uint64
	timings
}

func newStats(log *slog.Logger) *stats {
	s := &stats{log: log, timings: newTimings()}
	s.diary.begin()
	return s
}

// source is where the missed events were that a client was given.
type source uint8

const (
	fromRing   source = iota // recent ones, in memory
	fromStream               // fetched from the stream, for this client or another
	sources
)

func (s source) String() string { return [sources]string{"ring", "stream"}[s] }

// read counts that n events of a topic were found there.
func (s *stats) read(from source, n int) {
	if n > 0 {
		s.reads[from].Add(1)
	}
}

// askRefusals are why a node does not do what it is asked, in the order of
// stats.refusedAsks.
var askRefusals = [...]string{wire.RefusedVersion, wire.RefusedMalformed, wire.RefusedBusy}

// refusedAsk counts a request of a node that is not done.
func (s *stats) refusedAsk(why string) {
	for i, r := range askRefusals {
		if r == why {
			s.refusedAsks[i].Add(1)
		}
	}
}

// registerGate adds what a gate counts.
func registerGate(reg *prometheus.Registry, g *limits.Gate) {
	for r := range limits.Reasons {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_ssenode_limited_total", Help: "Requests and connections refused for being over a limit, by reason.",
			ConstLabels: prometheus.Labels{"reason": r.String()},
		}, func() float64 { return float64(g.Refused(r)) }))
	}
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "sluice_ssenode_accepted_total", Help: "Connections that came, with a request or not.",
	}, func() float64 { return float64(g.Accepted()) }))
	gauge := func(name, help string, f func() int) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_ssenode_" + name, Help: help}, func() float64 { return float64(f()) }))
	}
	gauge("pending_connections", "Connections that wait for a request now.", g.Waiting)
	gauge("limited_connections", "Streams and polls now, as SSENODE_MAX_CONNECTIONS counts them.", g.Open)
	gauge("max_connections", "Streams and polls that the node takes: SSENODE_MAX_CONNECTIONS, or fewer where it may not open as many files.", g.Most)
	gauge("limited_addresses", "Addresses of which something is counted now.", g.Known)
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

func (s *stats) register(reg prometheus.Registerer, h *hub) {
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
	counter("messages_in_total", "Messages received from NATS, by kind.", prometheus.Labels{"kind": "event"}, &s.messages)
	counter("messages_in_total", "Messages received from NATS, by kind.", prometheus.Labels{"kind": "system"}, &s.system)
	counter("bytes_in_total", "Bytes of the payloads of messages received from NATS.", nil, &s.bytesIn)
	counter("events_out_total", "Events written to clients.", nil, &s.events)
	counter("bytes_out_total", "Bytes written to streams: heads, events, heartbeats and all else.", nil, &s.bytes)
	for d := range drops {
		counter("dropped_total", "Events that did not reach somebody, by reason.", prometheus.Labels{"reason": d.String()}, &s.dropped[d])
	}
	for i, reason := range gapReasons {
		counter("gaps_total", "Gap events written to clients, by reason.", prometheus.Labels{"reason": reason}, &s.gapEvents[i])
	}
	counter("polls_total", "Long polls begun.", nil, &s.polls)
	for from := range sources {
		counter("catch_up_reads_total", "Times that missed events of a channel or pattern were found for a client, by where.", prometheus.Labels{"source": from.String()}, &s.reads[from])
	}
	counter("checks_total", "Comparisons with the stream.", nil, &s.checks)
	counter("doubts_total", "Times that ids given here were found to vouch for a message that was missing, which all nodes were told.", nil, &s.doubts)
	counter("relearned_total", "Channels and patterns that missed something, or may have, and were begun anew from the stream.", nil, &s.relearned)
	counter("slow_consumer_total", "Times that messages came faster than the node could take them.", nil, &s.slow)
	counter("routes_mismatch_total", "Pulses of a bridge with other ROUTES.", nil, &s.routes)
	counter("refreshed_total", "Streams, on all nodes, that got a newer token by a request to this one.", nil, &s.refreshed)
	counter("subscribed_total", "Channels added to live streams of this node.", nil, &s.subscribed)
	counter("unsubscribed_total", "Channels taken from live streams of this node.", nil, &s.unsubscribed)
	for r := range s.liveRefused {
		counter("subscribe_refused_total", "Changes that live streams of this node did not take, by reason.", prometheus.Labels{"reason": liveRefusal(r).String()}, &s.liveRefused[r])
	}
	counter("control_requests_total", "Requests of nodes, this one included, that came over NATS.", nil, &s.asked)
	for i, why := range askRefusals {
		counter("control_refused_total", "Requests of nodes that were not done, by reason.", prometheus.Labels{"reason": why}, &s.refusedAsks[i])
	}
	for i := range s.ignored {
		counter("revocations_ignored_total", "Revocations that are not heeded, by reason.", prometheus.Labels{"reason": ignorance(i).String()}, &s.ignored[i])
	}
	gauge("ring_bytes", "Recent events kept in memory.", func() float64 { return float64(s.ringBytes.Load()) })
	gauge("nats_subscriptions", "Channels and patterns subscribed at NATS.", func() float64 { n, _ := h.counts(); return float64(n) })
	gauge("watched_channels", "Channels and patterns that have clients.", func() float64 { _, n := h.counts(); return float64(n) })
	gauge("nats_connected", "1 while connected to NATS.", func() float64 {
		if h.nc.IsConnected() {
			return 1
		}
		return 0
	})
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "sluice_ssenode_nats_reconnects_total", Help: "Times the connection to NATS was made again.",
	}, func() float64 { return float64(h.nc.Stats().Reconnects) }))
	s.timings.register(reg)
}

// registerControl is register for what nodes ask each other, and for revocations.
func (s *stats) registerControl(reg prometheus.Registerer, a *control.Asker, r *auth.Revocations) {
	counter := func(name, help string, v *atomic.Uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_ssenode_" + name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, f func() int) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_ssenode_" + name, Help: help},
			func() float64 { return float64(f()) }))
	}
	counter("control_asked_total", "Questions to all nodes.", &a.Asked)
	counter("control_incomplete_total", "Questions that not all nodes have answered in time.", &a.Incomplete)
	counter("control_stray_total", "Answers that came too late, or were none.", &a.Stray)
	gauge("control_nodes", "Nodes of which something was heard of late, this one included.", func() int { n, _ := a.Nodes(); return n })
	gauge("revocations", "Subjects and tokens that are revoked.", r.Len)
}
