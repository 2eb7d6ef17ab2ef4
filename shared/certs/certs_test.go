package certs

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/shared/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClientValidate(t *testing.T) {
	a := embedded.TestAuthority(t)
	cert, key := a.Issue(t, "worker")
	_, otherKey := a.Issue(t, "other")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []Client{{}, {CA: a.File}, {Cert: cert, Key: key}, {a.File, cert, key}} {
		if err := good.Validate("NATS"); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	f := func(c Client, words ...string) {
		t.Helper()
		err := c.Validate("REDIS")
		if err == nil {
			t.Errorf("%+v is accepted", c)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q: want %q in it", err, word)
			}
		}
		if strings.Contains(err.Error(), "PRIVATE KEY") || strings.Contains(err.Error(), "SUACS") {
			t.Errorf("%q shows a secret", err)
		}
	}
	f(Client{Cert: cert}, "REDIS_CERT=", "REDIS_KEY=", "both")
	f(Client{Key: key}, "REDIS_CERT=", "REDIS_KEY=", "both")
	f(Client{CA: "/nowhere/ca.pem"}, `REDIS_CA="/nowhere/ca.pem"`, "no such file")
	f(Client{CA: empty}, "REDIS_CA=", "no certificate")
	f(Client{CA: key}, "REDIS_CA=", "no certificate")
	f(Client{Cert: cert, Key: otherKey}, "REDIS_CERT=", "does not match")
	f(Client{Cert: empty, Key: key}, "REDIS_CERT=", "PEM")
	f(Client{Cert: cert, Key: string(content)}, "REDIS_KEY=", "[redacted]", "not its content")
	f(Client{CA: "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"}, "REDIS_CA=", "[redacted]")
}

// serve accepts TLS on loopback, as a node does, and tells who connects what
// certificate there is, until the test ends.
func serve(t *testing.T, p *Pair) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", p.Config())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(wait))
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

const wait = 10 * time.Second

// replace gives a file the content of another, as programs that renew certificates do.
func replace(t *testing.T, file, with string) {
	t.Helper()
	text, err := os.ReadFile(with)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A new certificate is for new connections, those that are there stay. While the files
// do not fit together the last one is shown, and the log says so once.
func TestPairFollowsItsFiles(t *testing.T) {
	a := embedded.TestAuthority(t)
	cert, key := a.Issue(t, "first")
	second, secondKey := a.Issue(t, "second")
	log := &embedded.Lines{}
	p, err := OpenPair(cert, key, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	addr := serve(t, p)
	connect := func() *tls.Conn {
		t.Helper()
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: wait}, "tcp", addr, &tls.Config{RootCAs: a.Pool, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	shown := func() string {
		t.Helper()
		c := connect()
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	old := connect()
	if got := shown(); got != "first" {
		t.Fatalf("%s is shown", got)
	}
	if got := old.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("protocol %q", got)
	}
	often := &embedded.Lines{}
	looked, err := OpenPair(cert, key, slog.New(slog.NewTextHandler(often, nil)))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, cert, second) // and the key not yet
	for range 3 {
		looked.look()
	}
	if n := often.Count("cannot be used"); n != 1 {
		t.Errorf("told %d times", n)
	}
	embedded.Eventually(t, "the log tells", wait, func() bool { return log.Count("cannot be used") == 1 })
	if got := shown(); got != "first" {
		t.Errorf("half a pair is shown: %s", got)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	p2, err := OpenPair(cert, key, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "read key") {
		t.Errorf("without a key: %v, %v", p2, err)
	}
	replace(t, key, secondKey)
	embedded.Eventually(t, "the second certificate is shown", wait, func() bool { return shown() == "second" })
	if n := log.Count("cannot be used"); n != 1 {
		t.Errorf("told %d times", n)
	}
	embedded.Eventually(t, "the log tells of the new certificate", wait, func() bool { return log.Count(`msg="new certificate"`) == 1 })
	if _, err := old.Write([]byte("still there")); err != nil {
		t.Errorf("the first connection: %v", err)
	}
	if p.Ends().Before(time.Now()) {
		t.Errorf("ends %s", p.Ends())
	}
	// Less than TLS 1.2 is refused.
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		c.Close()
		t.Error("TLS 1.1 is accepted")
	}
}
