// Package ssenode is the node that browsers connect to: it delivers the events
// of Redis channels, mirrored into NATS by the bridge, as server-sent events.
// A node keeps no state that another one would need, so any number of them
// stand behind a load balancer.
//
//	browser ── GET /events ──> fasthttp ── request ──> hub ── subscribe if new ──> NATS
//	                              └── hijacked connection ──> engine loop: session
//	NATS ──> inbox ──> dispatcher ── frame, encoded once ──> ring of the topic
//	                       └── to the loops with clients ──> one write for each session
//
// A session that cannot keep up has no queue, only a position: when its socket
// takes bytes again it goes on from there, out of the topics' rings.
package ssenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/valyala/fasthttp"

	"sluice/shared/certs"
	"sluice/shared/control"
	"sluice/shared/natsconn"
	"sluice/shared/wire"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
	"sluice/ssenode/limits"
	"sluice/ssenode/web"
)

// Node is one SSE node.
type Node struct {
	cfg      Config
	log      *slog.Logger
	gate     *limits.Gate // where browsers connect
	admin    *worker.Admin
	nc       *nats.Conn
	engine   engine.Engine
	hub      *hub
	loops    []*loop
	dispatch *dispatcher
	history  *history
	fetcher  *fetcher
	usher    *usher
	guard    *auth.Guard
	asker    *control.Asker
	service  *service
	revoker  *revoker    // nil without authentication
	pair     *certs.Pair // nil: plain http
	tip      tip
	server   *fasthttp.Server
	files    map[string]*web.File // the client for pages, by path
	stats    *stats
	epoch    atomic.Pointer[string]
	next     atomic.Uint64 // the loop of the next stream
	away     atomic.Int64  // clients that were sent away and are not gone yet
	draining atomic.Bool
	done     chan struct{} // closed when the last loop is told to end
}

// New opens the node's ports and its connection to NATS, which need not be
// there yet. Errors name the setting that is wrong.
func New(cfg Config, log *slog.Logger) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: log, stats: newStats(log), done: make(chan struct{})}
	var err error
	if n.files, err = web.Load(); err != nil {
		return nil, err
	}
	if n.pair, err = cfg.SSENode.openPair(log); err != nil {
		return nil, err
	}
	if n.engine, err = engine.New(cfg.SSENode.engineName(), cfg.SSENode.Loops); err != nil {
		return nil, fmt.Errorf("SSENODE_ENGINE=%q: %w", cfg.SSENode.Engine, err)
	}
	if n.guard, err = auth.New(&n.cfg.SSENode.Settings, log); err != nil {
		return nil, err
	}
	ln, err := worker.Listen("SSENODE_ADDR", cfg.SSENode.Addr, n.engine.Listener(cfg.SSENode.StuckAfter+kernelPatience))
	if err != nil {
		return nil, err
	}
	n.gate = limits.New(ln.(*net.TCPListener), cfg.SSENode.Bounds, log)
	if n.admin, err = worker.NewAdmin(cfg.Admin.Addr, "ssenode", n.ready, log); err != nil {
		n.gate.Close()
		return nil, err
	}
	if err := n.connect(); err != nil {
		n.gate.Close()
		n.admin.Close()
		return nil, err
	}
	n.stats.register(n.admin.Registry, n.hub)
	n.history.register(n.admin.Registry)
	n.registerPressure(n.admin.Registry)
	n.stats.registerControl(n.admin.Registry, n.asker, n.guard.Revocations)
	registerGate(n.admin.Registry, n.gate)
	n.registerTLS(n.admin.Registry)
	n.serveDebug()
	n.server = n.newServer(log)
	return n, nil
}

// connect opens the connection to NATS and what hangs on it.
func (n *Node) connect() error {
	kick := make(chan struct{}, 1)
	nc, err := natsconn.Open(n.cfg.NATS, "ssenode-"+n.cfg.SSENode.Name, n.log, natsconn.Hooks{
		Up: func() {
			select {
			case kick <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	n.nc = nc
	n.history = newHistory(nc, n.cfg.Stream)
	n.tip.history = n.history
	n.hub = newHub(nc, &n.cfg, len(n.engine.Loops()), n.done, n.log)
	d := newDispatcher(n, n.hub)
	d.kick = kick
	n.dispatch = d
	d.fetcher = &fetcher{d: d, kick: make(chan struct{}, fetchers)}
	n.fetcher = d.fetcher
	n.usher = &usher{n: n, kick: make(chan struct{}, 1)}
	for i, e := range n.engine.Loops() {
		n.loops = append(n.loops, newLoop(i, e, n))
	}
	d.loops = n.loops
	d.out, d.outSize = make([][]op, len(n.loops)), make([]int64, len(n.loops))
	for i, token := range [...]string{wire.PulseToken, wire.GapToken} {
		if d.system[i], err = nc.ChanSubscribe(n.cfg.Stream.Live()+token, n.hub.inbox); err != nil {
			nc.Close()
			return fmt.Errorf("subscribe %s: %w", token, err)
		}
	}
	if err := n.startControl(); err != nil {
		nc.Close()
		return err
	}
	if n.guard.On() {
		if n.revoker, err = newRevoker(n); err != nil {
			nc.Close()
			return err
		}
	}
	return nil
}

// Addr is where browsers connect.
func (n *Node) Addr() net.Addr { return n.gate.Addr() }

// AdminAddr is where health and metrics are.
func (n *Node) AdminAddr() net.Addr { return n.admin.Addr() }

// ready says why a balancer should send no new clients, or nil.
func (n *Node) ready() error {
	switch {
	case n.draining.Load():
		return errors.New("draining")
	case !n.nc.IsConnected():
		return errors.New("not connected to NATS")
	case n.epoch.Load() == nil || *n.epoch.Load() == "":
		return errors.New("no pulse of a bridge seen yet")
	case !n.knowsRevoked():
		return errNotRead
	}
	return n.guard.Ready()
}

// Run serves until the context ends and the node is drained: it takes
// SSENODE_DRAIN_DELAY and at most SSENODE_DRAIN_TIME longer.
func (n *Node) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for i, l := range n.loops {
		wg.Go(func() { n.engine.Loops()[i].Run(l) })
	}
	wg.Go(func() { n.dispatch.run(work) })
	wg.Go(func() { n.dispatch.learner.run(work) })
	wg.Go(func() { n.usher.run(work) })
	wg.Go(func() { n.trim(work) })
	wg.Go(func() { n.guard.Run(work) })
	if n.revoker != nil {
		wg.Go(func() { n.revoker.run(work) })
	}
	asks, leave := context.WithCancel(work)
	defer leave()
	left := make(chan struct{})
	wg.Go(func() {
		defer close(left)
		n.asker.Run(asks)
	})
	wg.Go(func() { n.service.run(work) })
	wg.Go(func() { n.gate.Run(work) })
	if n.pair != nil {
		wg.Go(func() { n.pair.Run(work) })
	}
	for range fetchers {
		wg.Go(func() { n.fetcher.run(work) })
	}
	broken := make(chan error, 2)
	wg.Go(func() {
		if err := n.admin.Run(work); err != nil {
			broken <- err
		}
	})
	wg.Go(func() {
		if err := n.server.Serve(n.listener()); err != nil {
			broken <- fmt.Errorf("serve %s: %w", n.gate.Addr(), err)
		}
	})
	n.log.Info("node serves", "addr", n.gate.Addr().String(), "admin", n.admin.Addr().String(),
		"tls", n.pair != nil, "engine", n.engine.Name(), "loops", len(n.loops), "nats", natsconn.Redact(n.cfg.NATS.URL))
	var err error
	select {
	case <-ctx.Done():
		n.drain()
	case err = <-broken:
		n.closeServer()
	}
	leave() // while it is connected
	<-left
	for _, l := range n.loops {
		l.end()
	}
	n.nc.Close()
	close(n.done)
	stop()
	for _, l := range n.loops {
		l.engine.Stop()
	}
	wg.Wait()
	for _, l := range n.loops {
		for range l.sessions.n { // what the drain left; the engine has closed them
			n.stats.closed(shutdown)
		}
	}
	return err
}

// drain empties the node: not ready, then no new clients, then the streams are
// closed evenly.
func (n *Node) drain() {
	s := &n.cfg.SSENode
	n.draining.Store(true)
	n.log.Info("draining", "streams", n.stats.open(), "delay", s.DrainDelay, "time", s.DrainTime)
	time.Sleep(s.DrainDelay)
	n.closeServer()
	now := time.Now()
	for _, l := range n.loops {
		l.drainTo.Store(now.Add(s.DrainTime).UnixNano())
		l.drainFrom.Store(now.UnixNano())
	}
	limit := now.Add(s.DrainTime + 4*engine.TickEvery)
	for n.stats.open() > 0 && time.Now().Before(limit) {
		time.Sleep(engine.TickEvery / 10)
	}
}

// closeServer accepts no more and gives requests in work a moment.
func (n *Node) closeServer() {
	// Also when Serve has not begun yet: fasthttp would know nothing to close.
	n.gate.Close()
	end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := n.server.ShutdownWithContext(end); err != nil {
		n.log.Debug("requests were still in work", "error", err)
	}
}
