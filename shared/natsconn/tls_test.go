package natsconn

import (
	"crypto/tls"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/shared/certs"
	"sluice/shared/embedded"
)

// The reason is told also when it comes up later.
func TestTLSIsTurnedOn(t *testing.T) {
	cert, key := embedded.TestAuthority(t).Issue(t, "nats")
	secure := false
	s := serve(t, func(o *server.Options) {
		if secure {
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			o.TLSTimeout, o.TLSConfig = 5, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		}
	})
	nc, log := open(t, Settings{URL: s.URL()})
	embedded.Eventually(t, "connected", wait, nc.IsConnected)
	secure = true
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	embedded.Eventually(t, "the log tells", wait, func() bool { return strings.Contains(log.String(), "no TLS with NATS") })
}

func TestTLS(t *testing.T) {
	a, stranger := embedded.TestAuthority(t), embedded.TestAuthority(t)
	serverCert, serverKey := a.Issue(t, "nats")
	cert, key := a.Issue(t, "bridge")
	strangeCert, strangeKey := stranger.Issue(t, "bridge")
	secure := func(verify bool) *embedded.NATS {
		return serve(t, func(o *server.Options) {
			pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
			if err != nil {
				t.Fatal(err)
			}
			o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: a.Pool, MinVersion: tls.VersionTLS12}
			o.TLSTimeout = 5
			if verify {
				o.TLSVerify = true
				o.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
			}
		})
	}
	s := secure(false)
	for _, url := range []string{s.URL(), "tls://" + s.Addr()} {
		nc := works(t, Settings{URL: url, Client: certs.Client{CA: a.File}})
		if _, err := nc.TLSConnectionState(); err != nil {
			t.Error(err)
		}
	}
	fails(t, Settings{URL: s.URL()}, "no TLS with NATS")
	fails(t, Settings{URL: s.URL(), Client: certs.Client{CA: stranger.File}}, "no TLS with NATS")
	s = secure(true)
	works(t, Settings{URL: s.URL(), Client: certs.Client{CA: a.File, Cert: cert, Key: key}})
	fails(t, Settings{URL: s.URL(), Client: certs.Client{CA: a.File}}, "no TLS with NATS")
	fails(t, Settings{URL: s.URL(), Client: certs.Client{CA: a.File, Cert: strangeCert, Key: strangeKey}}, "no TLS with NATS")
	// With a file, and with tls://, TLS is insisted on.
	plain := serve(t, func(*server.Options) {})
	fails(t, Settings{URL: plain.URL(), Client: certs.Client{CA: a.File}}, "no TLS with NATS")
	fails(t, Settings{URL: "tls://" + plain.Addr()}, "no TLS with NATS")
}

// A certificate that is replaced counts from the next connection on.
func TestCertificateIsReadAgain(t *testing.T) {
	a := embedded.TestAuthority(t)
	serverCert, serverKey := a.Issue(t, "nats")
	cert, key := embedded.TestAuthority(t).Issue(t, "bridge") // nobody knows it
	good, goodKey := a.Issue(t, "bridge")
	s := serve(t, func(o *server.Options) {
		pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
		if err != nil {
			t.Fatal(err)
		}
		o.TLSVerify, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: a.Pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	})
	nc, _ := fails(t, Settings{URL: s.URL(), Client: certs.Client{CA: a.File, Cert: cert, Key: key}}, "no TLS with NATS")
	for from, to := range map[string]string{good: cert, goodKey: key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	embedded.Eventually(t, "connected", wait, nc.IsConnected)
}
