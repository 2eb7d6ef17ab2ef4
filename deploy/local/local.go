package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"golang.org/x/sync/errgroup"

	"sluice/publisher"
	"sluice/shared/certs"
	"sluice/shared/embedded"
	"sluice/shared/natsconn"
	"sluice/shared/redisconn"
	"sluice/shared/worker"
)

// local is everything that one command starts.
type local struct {
	cfg     config
	log     *slog.Logger
	out     io.Writer
	redis   *embedded.Redis // nil when REDIS_URL is set
	nats    *embedded.NATS  // nil when NATS_URL is set
	bridges []*child
	nodes   []*child
	poster  *publisher.Server
	front   *front

	redisURL, natsURL string
}

// newLocal starts the servers and opens all ports. A taken port is an error
// that names the setting to change; what was started by then is stopped.
func newLocal(cfg config, log *slog.Logger, out io.Writer) (_ *local, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &local{cfg: cfg, log: log, out: out, redisURL: cfg.Redis.URL, natsURL: cfg.NATS.URL}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	// The front first: its port is the one most likely to be taken.
	ln, err := worker.Listen("LOCAL_ADDR", cfg.Local.Addr, net.ListenConfig{})
	if err != nil {
		return nil, err
	}
	l.front = &front{ln: ln}
	if l.redisURL == "" {
		if l.redis, err = embedded.StartRedis(cfg.Local.RedisAddr); err != nil {
			return nil, taken("LOCAL_REDIS_ADDR", cfg.Local.RedisAddr, "REDIS_URL", err)
		}
		l.redisURL = l.redis.URL()
	}
	if l.natsURL == "" {
		if l.nats, err = embedded.StartNATS(embedded.NATSOptions{Addr: cfg.Local.NATSAddr}); err != nil {
			return nil, taken("LOCAL_NATS_ADDR", cfg.Local.NATSAddr, "NATS_URL", err)
		}
		l.natsURL = l.nats.URL()
	}
	secret := ""
	if cfg.auth {
		secret = rand.Text() + rand.Text()
	}
	if err := l.startChildren(secret); err != nil {
		return nil, err
	}
	pc := worker.Default[publisher.ServeConfig]()
	pc.Admin.Addr, pc.Publisher.Addr = "127.0.0.1:0", "127.0.0.1:0"
	pc.Redis.URL, pc.NATS.URL, pc.Publisher.DrainDelay = l.redisURL, l.natsURL, 0
	if l.poster, err = publisher.New(pc, log.With("worker", "publisher")); err != nil {
		return nil, err
	}
	var addrs []string
	for _, n := range l.nodes {
		addrs = append(addrs, n.hello.Addr)
	}
	l.front = newFront(ln, addrs, l.poster.Addr().String(), log)
	newDemo(l, secret).serve(l.front.mux)
	return l, nil
}

// taken explains that a port of an embedded server cannot be had.
func taken(setting, addr, url string, err error) error {
	return fmt.Errorf("%s=%q: %w (set %s to another address, or %s to the server that runs there)", setting, addr, err, setting, url)
}

// Run drives everything until the context ends.
func (l *local) Run(ctx context.Context) error {
	defer l.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.front.run(ctx) })
	g.Go(func() error { return l.poster.Run(ctx) })
	for _, c := range l.children() {
		g.Go(func() error { return c.Run(ctx) })
	}
	if len(l.cfg.scenarios) > 0 {
		g.Go(func() error { return l.simulate(ctx) })
	}
	l.tell()
	return g.Wait()
}

// simulate plays the apps that the demo page shows.
func (l *local) simulate(ctx context.Context) error {
	client, err := publisher.Open(l.redisURL, certs.Client{})
	if err != nil {
		return err
	}
	defer client.Close()
	err = publisher.Simulate(ctx, client, publisher.SimulateOptions{
		Scenarios: l.cfg.scenarios, Rate: l.cfg.Local.Rate,
	}, l.log.With("worker", "simulate"))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// tell prints what runs where and what to try.
func (l *local) tell() {
	var nodes []string
	for _, n := range l.nodes {
		nodes = append(nodes, "http://"+n.hello.Addr)
	}
	site := "http://" + browsable(l.front.ln.Addr())
	redis, send := redisconn.Redact(l.redisURL), "go run ./publisher/cmd/publisher"
	if l.redisURL != "redis://127.0.0.1:6379" {
		send = "REDIS_URL=" + redis + " " + send
	}
	fmt.Fprintf(l.out, `
  demo page  %s   (front of %s)
  Redis      %s%s   NATS %s%s
  admin      bridges http://%s/readyz   nodes http://%s/metrics   publisher http://%s/readyz

  listen     curl -N '%s/events?channel=race-events:demo'%s
  publish    %s publish race-events:demo '{"type":"race-start"}'
             %s send race-events:demo '{"type":"race-start"}'
             curl -d '{"type":"race-start"}' %s/publish/race-events:demo

`, site, strings.Join(nodes, ", "),
		redis, ifEmbedded(l.redis != nil), natsconn.Redact(l.natsURL), ifEmbedded(l.nats != nil),
		l.bridges[0].hello.Admin, l.nodes[0].hello.Admin, l.poster.AdminAddr(),
		site, l.openness(), redisCLI(l.redisURL), send, site)
}

// openness says what to do about a 401.
func (l *local) openness() string {
	if l.cfg.auth {
		return "   (LOCAL_AUTH=off opens channels of your own)"
	}
	return ""
}

func ifEmbedded(yes bool) string {
	if yes {
		return " (embedded)"
	}
	return ""
}

// redisCLI is the call of redis-cli that reaches the server.
func redisCLI(url string) string {
	if url == "redis://127.0.0.1:6379" {
		return "redis-cli"
	}
	return "redis-cli -u " + redisconn.Redact(url)
}

// browsable turns a listening address into one that a browser can open.
func browsable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// close stops the servers, and what was started but not run.
func (l *local) close() {
	for _, c := range l.children() {
		if err := c.end(); err != nil {
			l.log.Warn("left by close", "error", err)
		}
	}
	if l.front != nil {
		l.front.ln.Close()
	}
	if l.nats != nil {
		l.nats.Shutdown()
	}
	if l.redis != nil {
		l.redis.Close()
	}
}
