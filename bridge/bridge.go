// Package bridge mirrors Redis pub/sub channels into NATS: every message that
// Redis publishes is written, in Redis' order, to a JetStream stream, which
// republishes it to the nodes and keeps it for clients that were away.
//
//	Redis ── message ──> source: choose the copy, map the name ──> queue (bounded)
//	queue ──> leader: sluice.log.<subject>, "expected last sequence N" ──> stream SLUICE
//	stream ── acknowledgement N+1 ──> window: forget        └─ RePublish ─> sluice.live.<subject>
//	leader ── pulse, twice a second ──> sluice.log.$pulse
//	leader ── nonce, once a second ──> Redis, sluice:mark ──> all bridges
//	history=off: queue ──> sluice.live.<subject>, past the stream
//
// One bridge leads; others stand by. Whoever leads, the stream stores each message
// once and in order, because every message names the sequence it must follow. And
// every message tells where in Redis' order it stood, so a standby, which has kept
// what came since, goes on exactly there.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/channel"
	"sluice/shared/natsconn"
	"sluice/shared/redisconn"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// drainLimit is how long a stopping bridge goes on writing what is queued.
const drainLimit = 2 * time.Second

// Bridge is one bridge.
type Bridge struct {
	log      *slog.Logger
	admin    *worker.Admin
	home     *redisconn.Home
	nc       *nats.Conn
	routes   *route.Table
	source   *source
	queue    *queue
	leader   *leader
	stats    *stats
	refuse   refusals
	redisURL string // without its password
	full     bool   // the queue was full at the last message; owned by the reader
}

// New opens the admin port and the connections; neither Redis nor NATS need to
// be there yet. Errors name the setting that is wrong.
func New(cfg Config, log *slog.Logger) (*Bridge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bridge{log: log, redisURL: redisconn.Redact(cfg.Redis.URL), routes: &cfg.Routes, stats: newStats(), refuse: refusals{log: log}}
	var err error
	if b.home, err = redisconn.OpenHome(cfg.Redis.URL, redisconn.Options{Worker: "bridge", Channel: wire.MarkChannel, TLS: cfg.Redis.Client}); err != nil {
		return nil, err
	}
	if b.admin, err = worker.NewAdmin(cfg.Admin.Addr, "bridge", b.ready, log); err != nil {
		b.home.Close()
		return nil, err
	}
	b.admin.State = func() string { return b.leader.state.Load().String() }
	if b.nc, err = natsconn.Open(cfg.NATS, "bridge", log, natsconn.Hooks{}); err != nil {
		b.home.Close()
		b.admin.Close()
		return nil, err
	}
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.home.Close()
		b.admin.Close()
		b.nc.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	b.queue = newQueue(cfg.Bridge.QueueBytes)
	plan := newPlan(cfg.Bridge.Patterns)
	b.source = newSource(b.home, plan, b, b.stats, log)
	b.leader = newLeader(b.nc, b.queue, &cfg, b.source, log)
	b.leader.plan, b.leader.stats, b.leader.refused = plan.hash(), b.stats, &b.refuse
	b.leader.keeper = &keeper{nc: b.nc, js: js, names: cfg.Stream, cfg: &cfg, log: log}
	b.stats.register(b.admin.Registry, b)
	return b, nil
}

// Addr is where health and metrics are.
func (b *Bridge) Addr() net.Addr { return b.admin.Addr() }

// ready says why the bridge can neither lead nor take over, or nil.
func (b *Bridge) ready() error {
	switch s := b.leader.state.Load(); {
	case !b.source.linked():
		return errors.New("not subscribed to Redis")
	case !b.nc.IsConnected():
		return errors.New("not connected to NATS")
	case s.trouble != nil:
		return fmt.Errorf("the stream cannot be written: %w", s.trouble)
	}
	return nil
}

// Run mirrors until the context ends, and then writes what it has for up to
// two seconds.
func (b *Bridge) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.Background())
	defer stop()
	broken := make(chan error, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.admin.Run(work); err != nil {
			broken <- err
		}
	})
	wrote := make(chan struct{})
	wg.Go(func() {
		defer close(wrote)
		if err := b.leader.run(work); err != nil {
			broken <- err
		}
	})
	reading, stopReading := context.WithCancel(work)
	read := make(chan struct{})
	wg.Go(func() { defer close(read); b.source.run(reading) })
	b.log.Info("bridge mirrors", "redis", b.redisURL, "admin", b.admin.Addr().String(), "routes", b.routes.String())
	var err error
	select {
	case <-ctx.Done():
		stopReading()
		<-read
		close(b.leader.stopping)
		select {
		case <-wrote:
		case <-time.After(drainLimit):
			n, _ := b.queue.load()
			b.log.Warn("stopped with messages that could not be written", "queued", n, "unacknowledged", b.stats.inFlight.Load())
		}
	case err = <-broken:
	}
	stopReading()
	stop()
	wg.Wait()
	b.nc.Close()
	b.home.Close()
	return err
}

// take is called for each message from Redis. It never waits.
func (b *Bridge) take(name, payload string) {
	b.stats.received.Add(1)
	b.stats.receivedBytes.Add(uint64(len(payload)))
	subject, err := channel.Subject(name)
	if err != nil {
		if b.queue.pass() {
			b.drop(nameTooLong, name, len(name), channel.MaxSubject)
		}
		return
	}
	m := message{subject: subject, payload: payload}
	// The server closes the connection of whoever sends more.
	if limit := int(b.nc.MaxPayload()) - headerReserve; len(payload) > limit {
		if b.queue.leading() {
			b.drop(tooLarge, name, len(payload), limit)
		}
		m.payload, m.refused = "", true
	} else {
		m.live = b.routes.MatchSubject(subject).History.Off
	}
	switch ok := b.queue.push(m); {
	case !ok:
		b.stats.dropped[queueFull].Add(1)
		if !b.full {
			// Between what was taken before and what will be after.
			b.queue.tell(newMark(wire.GapDropped))
			b.log.Error("the queue to NATS is full: messages are dropped until there is room", "bytes", b.queue.max)
		}
		b.full = true
	case b.full:
		b.full = false
		b.log.Info("the queue to NATS has room again", "dropped in all", b.stats.dropped[queueFull].Load())
	}
}

func (b *Bridge) nonce(text string, sent time.Time) { b.queue.nonce(text, sent) }

func (b *Bridge) leading() bool { return b.queue.leading() }

// down notes that the link to Redis is lost.
func (b *Bridge) down() { b.queue.broken() }

// up notes that the link is there. If it was lost, or this bridge has led without
// one, then messages may be missing before those that come now.
func (b *Bridge) up(again bool) {
	if b.leader.blind.Swap(false) || again {
		b.queue.tell(newMark(wire.GapUpstream))
	}
}

func newMark(reason string) *wire.Mark { return &wire.Mark{Reason: reason, Time: time.Now().UTC()} }

func (b *Bridge) drop(d drop, name string, size, limit int) {
	b.stats.dropped[d].Add(1)
	b.refuse.note(d, name, size, limit)
}
