package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"sluice/shared/redisconn"
	"sluice/shared/worker"
)

// drainLimit is how long requests in work may take at the end: a call to Redis and
// the count of recipients.
const drainLimit = callLimit + time.Second

// Server is the HTTP API of `publisher serve`: what is posted goes to Redis, and is
// answered when Redis has confirmed it.
//
//	POST ── head: page, key ── body: messages ── rate ──> Redis PUBLISH ──> {"success":true,"recipients":n}
//	                                                          └─ away: 503 at once, see link
type Server struct {
	cfg      ServeConfig
	log      *slog.Logger
	ln       net.Listener
	admin    *worker.Admin
	client   redis.UniversalClient
	nodes    *nodes   // from Run; nil without PUBLISHER_NATS
	audience audience // the nodes, or nil
	out      outbox
	link     *link
	places   places
	rates    rates
	http     *fasthttp.Server
	stats    *stats
	draining atomic.Bool
}

// New opens the ports; Redis need not be there yet. Errors name the setting that
// is wrong.
func New(cfg ServeConfig, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &cfg.Publisher
	s := &Server{cfg: cfg, log: log, stats: newStats(), rates: newRates(p.Rate, p.APIKeys.Len(), p.MaxItems)}
	var err error
	if s.places, err = newPlaces(&cfg); err != nil {
		return nil, err
	}
	if s.client, err = Open(cfg.Redis.URL, cfg.Redis.Client); err != nil {
		return nil, err
	}
	s.out = outbox{s.client}
	s.link = newLink(s.out, log)
	if s.ln, err = worker.Listen("PUBLISHER_ADDR", p.Addr, net.ListenConfig{}); err != nil {
		s.client.Close()
		return nil, err
	}
	if a, ok := s.ln.Addr().(*net.TCPAddr); p.APIKeys.Len() == 0 && (!ok || !a.IP.IsLoopback()) {
		// "localhost" may be another machine's name here.
		s.client.Close()
		s.ln.Close()
		return nil, needsKeys(p.Addr)
	}
	if s.admin, err = worker.NewAdmin(cfg.Admin.Addr, "publisher", s.ready, log); err != nil {
		s.client.Close()
		s.ln.Close()
		return nil, err
	}
	s.http = s.newHTTP()
	s.stats.register(s.admin.Registry, s)
	return s, nil
}

// Addr is where the API listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// AdminAddr is where health and metrics are.
func (s *Server) AdminAddr() net.Addr { return s.admin.Addr() }

// ready says why a balancer should send no requests, or nil.
func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	if err := s.link.err(); err != nil {
		return fmt.Errorf("cannot use Redis: %w", err)
	}
	return nil
}

// Run serves until the context ends and what was in work is answered: it takes
// PUBLISHER_DRAIN_DELAY and at most four seconds longer.
func (s *Server) Run(ctx context.Context) error {
	defer s.client.Close()
	work, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	if s.cfg.Publisher.NATS {
		n, err := openNodes(s.cfg.NATS, s.cfg.Stream, s.log)
		if err != nil {
			s.ln.Close()
			s.admin.Close()
			return err
		}
		defer n.nc.Close()
		s.nodes, s.audience = n, n
		n.register(s.admin.Registry)
		wg.Go(func() { n.asker.Run(work) })
	}
	broken := make(chan error, 2)
	wg.Go(func() { s.link.run(work) })
	wg.Go(func() {
		if err := s.admin.Run(work); err != nil {
			broken <- err
		}
	})
	wg.Go(func() {
		if err := s.http.Serve(lingerListener{s.ln}); err != nil {
			broken <- fmt.Errorf("serve %s: %w", s.ln.Addr(), err)
		}
	})
	s.log.Info("publisher serves", "addr", s.ln.Addr().String(), "admin", s.admin.Addr().String(),
		"redis", redisconn.Redact(s.cfg.Redis.URL), "keys", s.cfg.Publisher.APIKeys.Len())
	if s.cfg.Publisher.APIKeys.Len() == 0 {
		s.log.Info("without PUBLISHER_API_KEYS everyone who reaches the port can publish, also through a proxy")
	}
	var err error
	select {
	case <-ctx.Done():
		s.drain()
	case err = <-broken:
		s.close()
	}
	stop()
	wg.Wait()
	return err
}

// drain: not ready, then no new requests, then what is in work.
func (s *Server) drain() {
	s.draining.Store(true)
	s.log.Info("draining", "delay", s.cfg.Publisher.DrainDelay)
	time.Sleep(s.cfg.Publisher.DrainDelay)
	s.close()
}

// close accepts no more, and gives requests in work the time that they can take.
func (s *Server) close() {
	// Also when Serve has not begun yet: fasthttp would know nothing to close.
	s.ln.Close()
	end, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := s.http.ShutdownWithContext(end); errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("stopped with requests in work", "error", err)
	}
}
