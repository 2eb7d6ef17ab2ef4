package natsconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// tellAgain is how often one and the same missing right is logged.
	tellAgain = time.Minute
	// maxTold bounds how many different ones are logged in that time.
	maxTold = 64
)

// trouble logs why a server does not let this worker in, or do what it has to: each
// reason once, for the connection is tried for ever.
type trouble struct {
	log *slog.Logger

	mu    sync.Mutex // guards the following fields
	why   string     // kind of the last refusal of a connection
	since map[string]time.Time
}

// connected forgets why it could not be connected.
func (t *trouble) connected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.why = ""
}

// refused is told of an error at connecting. That a server is not there is logged
// elsewhere.
func (t *trouble) refused(err error) {
	why := kind(err)
	t.mu.Lock()
	first := why != "" && why != t.why
	if first {
		t.why = why
	}
	t.mu.Unlock()
	switch {
	case !first:
	case why == "login":
		t.log.Error("NATS refuses the login, trying on: look at the user in NATS_URL, NATS_CREDS or NATS_NKEY", "error", err)
	default:
		t.log.Error("no TLS with NATS, trying on: look at NATS_URL (tls:// insists on TLS), NATS_CA, NATS_CERT and NATS_KEY", "error", err)
	}
}

// kind is "login", "tls" or "" for anything else.
func kind(err error) string {
	for _, e := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported} {
		if errors.Is(err, e) {
			return "login"
		}
	}
	var untrusted *tls.CertificateVerificationError
	var other x509.HostnameError
	var plain tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &untrusted) || errors.As(err, &other) || errors.As(err, &plain) || errors.As(err, &alert) ||
		errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrSecureConnRequired) ||
		err != nil && strings.Contains(err.Error(), "tls: ") {
		return "tls"
	}
	return ""
}

// forbidden is told of every error of a connection, and logs missing rights.
func (t *trouble) forbidden(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	text, now := err.Error(), time.Now()
	t.mu.Lock()
	if at, told := t.since[text]; told && now.Sub(at) < tellAgain {
		t.mu.Unlock()
		return true
	}
	if len(t.since) >= maxTold {
		for old, at := range t.since {
			if now.Sub(at) >= tellAgain {
				delete(t.since, old)
			}
		}
	}
	first := len(t.since) < maxTold
	if first {
		if t.since == nil {
			t.since = map[string]time.Time{}
		}
		t.since[text] = now
	}
	t.mu.Unlock()
	if first {
		t.log.Error("NATS forbids what this worker needs: see the rights in deploy/nats/nats.conf", "error", err)
	}
	return true
}
