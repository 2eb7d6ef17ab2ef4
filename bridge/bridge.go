// Package bridge mirrors Redis pub/sub channels into NATS: every message that
// Redis publishes is written, in Redis' order, to a JetStream stream, which
// republishes it to the nodes and keeps it for clients that were away.
//
//	Redis ── message ──> source: choose the copy, map the name ──> queue (bounded)
//	queue ──> leader: sluice.log.<subject>, "expected last sequence N" ──> stream SLUICE
//	stream ── acknowledgement N+1 ──> window: forget        └─ RePublish ─> sluice.live.<subject>
//	leader ── pulse, twice a second ──> sluice.log.$pulse
//	history=off: queue ──> sluice.live.<subject>, past the stream
//
// One bridge leads; others wait. Whoever leads, the stream stores each message
// once and in order, because every message names the sequence it must follow.
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
	"github.com/redis/go-redis/v9"

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
	redis    redis.UniversalClient
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
	if b.redis, err = redisconn.Open(cfg.Redis.URL, redisconn.Options{Worker: "bridge"}); err != nil {
		return nil, err
	}
	if b.admin, err = worker.NewAdmin(cfg.Admin.Addr, "bridge", b.ready, log); err != nil {
		b.redis.Close()
		return nil, err
	}
	if b.nc, err = natsconn.Open(cfg.NATS, "bridge", log, natsconn.Hooks{}); err != nil {
		b.redis.Close()
		b.admin.Close()
		return nil, err
	}
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.redis.Close()
		b.admin.Close()
		b.nc.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	b.queue = newQueue(cfg.Bridge.QueueBytes)
	b.source = &source{client: b.redis, plan: newPlan(cfg.Bridge.Patterns), take: b.take, lost: b.lost, log: log}
	b.leader = &leader{
		nc: b.nc, queue: b.queue, names: cfg.Stream, routes: cfg.Routes.Hash(), pulse: cfg.Bridge.Pulse,
		keeper: &keeper{nc: b.nc, js: js, names: cfg.Stream, cfg: &cfg, log: log},
		stats:  b.stats, log: log, name: newEpoch(), stopping: make(chan struct{}),
		keepEvery: max(time.Second, cfg.Routes.MaxAge()/keptPulses), refused: &b.refuse,
		lost: func() { b.mark(wire.GapUpstream) },
	}
	b.stats.register(b.admin.Registry, b)
	return b, nil
}

// Addr is where health and metrics are.
func (b *Bridge) Addr() net.Addr { return b.admin.Addr() }

// ready says why the bridge can neither lead nor take over, or nil.
func (b *Bridge) ready() error {
	switch {
	case !b.source.up.Load():
		return errors.New("not subscribed to Redis")
	case !b.nc.IsConnected():
		return errors.New("not connected to NATS")
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
	b.redis.Close()
	return err
}

// take is called for each message from Redis. It never waits.
func (b *Bridge) take(name, payload string) {
	if !b.leader.leads.Load() {
		return // the leader's to mirror
	}
	b.stats.received.Add(1)
	subject, err := channel.Subject(name)
	if err != nil {
		b.drop(nameTooLong, name, len(name), channel.MaxSubject)
		return
	}
	// The server closes the connection of whoever sends more.
	if limit := int(b.nc.MaxPayload()) - headerReserve; len(payload) > limit {
		b.refuse.lose(subject)
		b.drop(tooLarge, name, len(payload), limit)
		return
	}
	live := b.routes.MatchSubject(subject).History.Off
	switch ok := b.queue.push(message{subject: subject, payload: payload, live: live}); {
	case !ok:
		b.stats.dropped[queueFull].Add(1)
		if !b.full {
			// Between what was taken before and what will be after.
			b.mark(wire.GapDropped)
			b.log.Error("the queue to NATS is full: messages are dropped until there is room", "bytes", b.queue.max)
		}
		b.full = true
	case b.full:
		b.full = false
		b.log.Info("the queue to NATS has room again", "dropped in all", b.stats.dropped[queueFull].Load())
	}
}

// lost tells all clients that messages from Redis may be missing before those
// that come now.
func (b *Bridge) lost() {
	if b.leader.leads.Load() {
		b.mark(wire.GapUpstream)
	}
}

func (b *Bridge) mark(reason string) {
	b.queue.push(message{subject: wire.GapToken, mark: &wire.Mark{Reason: reason, Time: time.Now().UTC()}})
}

func (b *Bridge) drop(d drop, name string, size, limit int) {
	b.stats.dropped[d].Add(1)
	b.refuse.note(d, name, size, limit)
}
