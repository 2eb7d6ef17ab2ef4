// Package natsconn opens connections to NATS that come back by themselves:
// they are tried for ever with jittered back-off, notice a dead server in
// seconds, and never buffer publishes over a reconnection (a burst of stale
// messages out of order would be worse than the error).
package natsconn

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Timing of a connection. A server that stops answering is noticed after
// pingEvery*(pingsOut+1) at the latest.
const (
	pingEvery  = 2 * time.Second
	pingsOut   = 2
	dialLimit  = 2 * time.Second
	firstDelay = 100 * time.Millisecond
	maxDelay   = 2 * time.Second
)

// Hooks are told what happens to a connection; nil ones are left out. They run
// one after the other on a goroutine of the connection's and must not block.
type Hooks struct {
	Up    func() // connected, the first time or again
	Down  func() // connection lost
	Error func(sub *nats.Subscription, err error)
	// Failed is told why another try to connect came to nothing.
	Failed func(err error)
}

// Open returns at once, connected or not: a server that is not there yet, or
// refuses, is tried until Close. Answers to this worker's questions come to subjects
// under "_INBOX.<worker>.", where the worker is the first word of the name
// ("ssenode-n1"): so each kind of worker can be allowed to hear its own alone.
func Open(s Settings, name string, log *slog.Logger, hooks Hooks) (*nats.Conn, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &trouble{log: log}
	up := func(text string) nats.ConnHandler {
		return func(nc *nats.Conn) {
			t.connected()
			// Not ConnectedUrlRedacted, which shows a token.
			log.Info(text, "server", Redact(nc.ConnectedUrl()))
			if hooks.Up != nil {
				hooks.Up()
			}
		}
	}
	worker, _, _ := strings.Cut(name, "-")
	var opened atomic.Pointer[nats.Conn]
	opts := []nats.Option{
		nats.Name("sluice-" + name),
		nats.CustomInboxPrefix("_INBOX." + worker),
		nats.Timeout(dialLimit),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // else a password that is changed here later than there is the end
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			// The only place to learn of what fails after TCP is connected.
			if nc := opened.Load(); nc != nil {
				t.refused(nc.LastError())
			}
			return delay(attempts)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			t.refused(err)
			if hooks.Failed != nil {
				hooks.Failed(err)
			}
		}),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsOut),
		nats.FlusherTimeout(pingEvery * (pingsOut + 1)), // else publishing could wait for a minute
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
			if kind(err) == "login" {
				t.refused(err)
			} else if !t.forbidden(err) {
				log.Warn("NATS error", "subject", subject, "error", err)
			}
			if hooks.Error != nil {
				hooks.Error(sub, err)
			}
		}),
	}
	login, err := s.login()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(s.URL, append(append(opts, login...), s.tls()...)...)
	if err != nil {
		var quoting *url.Error // has the URL
		if errors.As(err, &quoting) {
			err = quoting.Err
		}
		return nil, fmt.Errorf("NATS_URL=%q: %w", Redact(s.URL), err)
	}
	opened.Store(nc)
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
