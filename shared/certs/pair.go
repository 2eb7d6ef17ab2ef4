package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// lookEvery is how often the files of a Pair are looked at. They are read, not asked
// for their time: a Secret of Kubernetes is replaced by a change of a link.
const lookEvery = time.Second

// Pair is a server's certificate and key in two files. When they change, new
// connections get the new certificate; while they do not fit together, as in the
// middle of a change, the last one that did is used on.
type Pair struct {
	cert, key string
	log       *slog.Logger
	now       atomic.Pointer[tls.Certificate]

	// Owned by Run.
	seen [sha256.Size]byte // of both files, when looked at last
	told bool              // that they cannot be used
}

// OpenPair reads the files. The errors do not name a setting.
func OpenPair(cert, key string, log *slog.Logger) (*Pair, error) {
	p := &Pair{cert: cert, key: key, log: log}
	pair, sum, err := readPair(cert, key)
	if err != nil {
		return nil, err
	}
	p.now.Store(&pair)
	p.seen = sum
	return p, nil
}

// Run looks for changes until the context ends.
func (p *Pair) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.look()
		case <-ctx.Done():
			return
		}
	}
}

// look takes over what has changed. One log line tells that it cannot be used, until
// it can.
func (p *Pair) look() {
	pair, sum, err := readPair(p.cert, p.key)
	switch {
	case err != nil && !p.told:
		p.told = true
		p.log.Warn("the new certificate cannot be used, the last one is used on", "cert", p.cert, "key", p.key, "error", err)
	case err != nil:
	case sum != p.seen:
		p.now.Store(&pair)
		p.seen, p.told = sum, false
		p.log.Info("new certificate", "cert", p.cert, "ends", pair.Leaf.NotAfter.UTC())
	case p.told: // as it was before
		p.told = false
		p.log.Info("the certificate is as it was", "cert", p.cert)
	}
}

// Ends is when the certificate in use ends.
func (p *Pair) Ends() time.Time { return p.now.Load().Leaf.NotAfter }

// Config is for a listener of HTTP/1.1 with TLS 1.2 or newer.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil },
	}
}

// readPair reads both files; sum tells whether they are others than before.
func readPair(certFile, keyFile string) (pair tls.Certificate, sum [sha256.Size]byte, err error) {
	cert, err := ReadFile(certFile)
	if err != nil {
		return pair, sum, fmt.Errorf("read certificate: %w", err)
	}
	key, err := ReadFile(keyFile)
	if err != nil {
		return pair, sum, fmt.Errorf("read key: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", len(cert))
	h.Write(cert)
	h.Write(key)
	pair, err = tls.X509KeyPair(cert, key)
	return pair, [sha256.Size]byte(h.Sum(nil)), err
}
