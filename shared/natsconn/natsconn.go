// Package natsconn opens connections to NATS that come back by themselves:
// they are tried for ever with jittered back-off, notice a dead server in
// seconds, and never buffer publishes over a reconnection (a burst of stale
// messages out of order would be worse than the error).
package natsconn

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Settings is the group of settings that begins with NATS_.
type Settings struct {
	URL string `default:"nats://127.0.0.1:4222" desc:"NATS servers, separated by commas"`
}

// Timing of a connection. A server that stops answering is noticed after
// pingEvery*(pingsOut+1) at the latest.
const (
	pingEvery  = 2 * time.Second
	pingsOut   = 2
	dialLimit  = 2 * time.Second
	firstDelay = 100 * time.Millisecond
	maxDelay   = 2 * time.Second
)

// Validate checks the URL without connecting.
func (s Settings) Validate() error {
	for u := range strings.SplitSeq(s.URL, ",") {
		p, err := url.Parse(strings.TrimSpace(u))
		if err != nil || p.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, p.Scheme) {
			return fmt.Errorf("NATS_URL=%q: want nats://host:port, several separated by commas", Redact(s.URL))
		}
	}
	return nil
}

// Hooks are told what happens to a connection; nil ones are left out. They run
// one after the other on a goroutine of the connection's and must not block.
type Hooks struct {
	Up    func() // connected, the first time or again
	Down  func() // connection lost
	Error func(sub *nats.Subscription, err error)
	// Failed is told why another try to connect came to nothing.
	Failed func(err error)
}

// Open returns at once, connected or not: a server that is not there yet is
// tried until Close.
func Open(s Settings, name string, log *slog.Logger, hooks Hooks) (*nats.Conn, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	up := func(text string) nats.ConnHandler {
		return func(nc *nats.Conn) {
			log.Info(text, "server", nc.ConnectedUrlRedacted())
			if hooks.Up != nil {
				hooks.Up()
			}
		}
	}
	opts := []nats.Option{
		nats.Name("sluice-" + name),
		nats.Timeout(dialLimit),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(delay),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsOut),
		nats.ConnectHandler(up("NATS connected")),
		nats.ReconnectHandler(up("NATS connected again")),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return
			}
			log.Warn("NATS connection lost", "error", err)
			if hooks.Down != nil {
				hooks.Down()
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS error", "subject", subject, "error", err)
			if hooks.Error != nil {
				hooks.Error(sub, err)
			}
		}),
	}
	if hooks.Failed != nil {
		opts = append(opts, nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { hooks.Failed(err) }))
	}
	nc, err := nats.Connect(s.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("NATS_URL=%q: %w", Redact(s.URL), err)
	}
	if !nc.IsConnected() {
		log.Warn("NATS does not answer yet, trying on", "url", Redact(s.URL))
	}
	return nc, nil
}

// delay is exponential from firstDelay to maxDelay, jittered by half so that
// nodes do not come back all at once.
func delay(attempts int) time.Duration {
	d := maxDelay
	if attempts < 5 {
		d = min(maxDelay, firstDelay<<max(0, attempts-1))
	}
	return d/2 + rand.N(d/2)
}

// Redact replaces user names and passwords in a list of URLs.
func Redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		u = strings.TrimSpace(u)
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme := ""
			if s := strings.Index(u, "://"); s >= 0 && s < at {
				scheme = u[:s+3]
			}
			u = scheme + "***@" + u[at+1:]
		}
		list[i] = u
	}
	return strings.Join(list, ",")
}
