package engine

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// tlsEngine is an engine whose connections speak TLS, as a node's own port can.
type tlsEngine struct {
	Engine
	server, client *tls.Config
}

func newTLSEngine(t *testing.T, e Engine) Engine {
	t.Helper()
	a := embedded.TestAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.Issue(t, "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	return tlsEngine{e, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, &tls.Config{RootCAs: a.Pool, ServerName: "localhost"}}
}

// Take is given connections after their handshake, as by a node.
func (e tlsEngine) Take(c net.Conn, stuck time.Duration, gone func()) (Socket, error) {
	secure := tls.Server(c, e.server)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	return e.Engine.Take(secure, stuck, gone)
}

// patient is a connection whose deadlines never come.
type patient struct{ net.Conn }

func (patient) SetWriteDeadline(time.Time) error { return nil }

// TLS says goodbye at the end; a client that does not take it cannot keep the
// connection, and whoever waits for it.
func TestPartIsBounded(t *testing.T) {
	e := newEngine(t, "tls").(tlsEngine)
	near, far := net.Pipe() // no room for a goodbye
	defer far.Close()
	server, client := tls.Server(patient{near}, e.server), tls.Client(far, e.client)
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "handshake", shaken); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { part(server); close(ended) }()
	receive(t, "the end", ended)
}
