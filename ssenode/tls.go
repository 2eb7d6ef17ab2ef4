package ssenode

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"sluice/shared/certs"
)

// TLSSettings are the part of a node's settings that makes it speak TLS to browsers.
type TLSSettings struct {
	Cert string `desc:"file with a certificate and its chain (PEM): SSENODE_ADDR speaks https"`
	Key  string `desc:"file with the key (PEM) of that certificate"`
}

func (t TLSSettings) on() bool { return t.Cert != "" }

func (s *Settings) validateTLS() error {
	switch {
	case (s.TLS.Cert == "") != (s.TLS.Key == ""):
		return fmt.Errorf("SSENODE_TLS_CERT=%q and SSENODE_TLS_KEY=%q: want both, or none for plain http", certs.Shown(s.TLS.Cert), certs.Shown(s.TLS.Key))
	case s.TLS.on() && s.Engine == "epoll":
		return fmt.Errorf("SSENODE_ENGINE=%q with SSENODE_TLS_CERT=%q: only the portable engine speaks TLS; want SSENODE_ENGINE=auto or portable", s.Engine, certs.Shown(s.TLS.Cert))
	}
	return nil
}

// engineName is SSENODE_ENGINE, settled for TLS: that is done in the process, with
// buffers of its own for each client, and so not by an engine that knows of sockets
// only.
func (s *Settings) engineName() string {
	if s.TLS.on() && s.Engine == "auto" {
		return "portable"
	}
	return s.Engine
}

// openPair reads certificate and key; nil without TLS.
func (s *Settings) openPair(log *slog.Logger) (*certs.Pair, error) {
	if !s.TLS.on() {
		return nil, nil
	}
	p, err := certs.OpenPair(s.TLS.Cert, s.TLS.Key, log)
	if err != nil {
		return nil, fmt.Errorf("SSENODE_TLS_CERT=%q with SSENODE_TLS_KEY=%q: %w", certs.Shown(s.TLS.Cert), certs.Shown(s.TLS.Key), err)
	}
	return p, nil
}

// listener is the node's port; with a certificate it speaks TLS. The handshake is part of the first read,
// on the connection's own goroutine and within SSENODE_HEAD_TIMEOUT: whoever does not
// go through with it delays nobody.
func (n *Node) listener() net.Listener {
	if n.pair == nil {
		return n.gate
	}
	return tls.NewListener(n.gate, n.pair.Config())
}

func (n *Node) registerTLS(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "sluice_ssenode_tls_failures_total", Help: "Connections that did not get through the TLS handshake.",
	}, func() float64 { return float64(n.stats.handshakes.Load()) }))
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_ssenode_tls_certificate_ends_seconds", Help: "When the certificate ends, in Unix time; 0 without TLS.",
	}, func() float64 {
		if n.pair == nil {
			return 0
		}
		return float64(n.pair.Ends().Unix())
	}))
}

// plainAnswer is for who speaks HTTP where TLS is spoken, as curl shows it.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
	`{"error":"this port speaks https, the request came as http"}` + "\n"

// noHandshake handles what could not be read because there was no TLS handshake, and
// tells whether that is so. Nothing can be answered, but to plain HTTP.
func (n *Node) noHandshake(ctx *fasthttp.RequestCtx, err error) bool {
	state := ctx.TLSConnectionState()
	if state == nil || state.HandshakeComplete {
		return false
	}
	n.stats.handshakes.Add(1)
	ctx.SetConnectionClose()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && isHTTP(plain.RecordHeader) {
		_ = plain.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(plain.Conn, plainAnswer)
	}
	return true
}

// isHTTP tells by the first bytes of a connection.
func isHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}
