package ssenode

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/worker"
)

// secured gives a node a certificate of the authority's.
func secured(t *testing.T, a *embedded.Authority, c *Config) {
	t.Helper()
	c.SSENode.TLS.Cert, c.SSENode.TLS.Key = a.Issue(t, "node")
}

// openTLS connects with TLS and reads up to the connected event.
func openTLS(t *testing.T, n *Node, a *embedded.Authority, path, id string) *sseclient.Stream {
	t.Helper()
	transport := &http.Transport{
		// As browsers do it: HTTP/2 if there is any.
		ForceAttemptHTTP2: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: a.Pool},
	}
	t.Cleanup(transport.CloseIdleConnections)
	s, err := sseclient.Open(t.Context(), "https://"+n.Addr().String()+path, sseclient.Options{LastEventID: id, Client: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(s.Close)
	if ev := next(t, s); ev.Name != "connected" {
		t.Fatalf("%s: first event is %+v, want connected", path, ev)
	}
	return s
}

// dialTLS makes a connection for requests by hand.
func dialTLS(t *testing.T, n *Node, a *embedded.Authority, window int) *tls.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	if window > 0 {
		if err := raw.(*net.TCPConn).SetReadBuffer(window); err != nil {
			t.Fatal(err)
		}
	}
	c := tls.Client(raw, &tls.Config{RootCAs: a.Pool, ServerName: "localhost"})
	_ = c.SetDeadline(time.Now().Add(4 * wait))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// A stream over TLS is like any other: events with ids, resume, polls, another request
// on the connection of an answer.
func TestTLSStream(t *testing.T) {
	t.Parallel()
	u, a := newUpstream(t), embedded.TestAuthority(t)
	n := startNode(t, u, func(c *Config) { secured(t, a, c) })
	if name := n.engine.Name(); name != "portable" {
		t.Errorf("engine %s", name)
	}
	s := openTLS(t, n, a, "/events?channel=a&pattern=b:*", "")
	settle(t, n)
	u.publish("a", "1")
	u.publish("b:x", strings.Repeat("large ", 50_000)) // many TLS records
	id := want(t, s, "", "1").ID
	want(t, s, "", strings.Repeat("large ", 50_000))
	s.Close()
	until(t, "the stream is closed", func() bool { return n.stats.open() == 0 })
	u.publish("a", "missed")
	s = openTLS(t, n, a, "/events?channel=a", id)
	want(t, s, "", "missed")
	u.publish("a", "and on")
	want(t, s, "", "and on")

	c := dialTLS(t, n, a, 0)
	r := bufio.NewReader(c)
	for _, path := range []string{"/version", "/poll?channel=a&lastEventId=" + id, "/nothing"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if good := resp.StatusCode == 200; good == (path == "/nothing") || path[1] == 'p' && !strings.Contains(string(body), "missed") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if f := n.stats.handshakes.Load(); f != 0 {
		t.Errorf("%d handshakes failed", f)
	}
}

// A client that takes nothing over TLS delays nobody and is closed as stuck; the end of
// the node waits for it no longer than for others.
func TestTLSSlowClient(t *testing.T) {
	t.Parallel()
	u, a := newUpstream(t), embedded.TestAuthority(t)
	n := startNode(t, u, func(c *Config) { secured(t, a, c); c.SSENode.StuckAfter = 2 * time.Second })
	good := openTLS(t, n, a, "/events?channel=loud", "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		payload := strings.Repeat("x", 100<<10)
		for {
			select {
			case <-stop:
				return
			default:
				u.publish("loud", payload)
			}
		}
	})
	cathy := dialTLS(t, n, a, 4<<10)
	fmt.Fprint(cathy, "GET /events?channel=loud HTTP/1.1\r\nHost: x\r\n\r\n")
	for n.stats.closes[stuck].Load() == 0 {
		if ev := next(t, good); ev.Name != "gap" && len(ev.Data) != 100<<10 {
			t.Fatalf("event %q with %d bytes", ev.Name, len(ev.Data))
		}
	}
	if open, gone := n.stats.open(), n.stats.closes[clientGone].Load(); open != 1 || gone != 0 {
		t.Errorf("%d streams are open, %d gone: want the good one alone", open, gone)
	}
	other := dialTLS(t, n, a, 4<<10) // stuck when the node ends
	fmt.Fprint(other, "GET /events?channel=loud HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, "it is there", func() bool { return n.stats.open() == 2 })
}

// On a planned stop the streams are told when to come back, and end with TLS' own
// goodbye: who reads knows that nothing was cut off.
func TestTLSDrain(t *testing.T) {
	t.Parallel()
	u, a := newUpstream(t), embedded.TestAuthority(t)
	cfg := worker.Default[Config]()
	cfg.NATS.URL, cfg.Admin.Addr, cfg.SSENode.Addr = u.server.URL(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, time.Second
	secured(t, a, &cfg)
	n, err := New(cfg, embedded.TestLog(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	until(t, "node is ready", func() bool { return n.ready() == nil })
	var conns []*tls.Conn
	for range 5 {
		c := dialTLS(t, n, a, 0)
		fmt.Fprint(c, "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n")
		conns = append(conns, c)
	}
	until(t, "all are there", func() bool { return n.stats.open() == 5 })
	cancel()
	for i, c := range conns {
		b, err := io.ReadAll(c) // fails when the end is not a goodbye
		if err != nil || strings.Count(string(b), "retry: ") != 2 {
			t.Errorf("stream %d: %q, %v", i, b, err)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(wait):
		t.Fatal("Run did not return")
	}
}

// What is no handshake ends soon, and those who go through with one do not feel it.
func TestTLSBadHandshakes(t *testing.T) {
	t.Parallel()
	u, a := newUpstream(t), embedded.TestAuthority(t)
	n := startNode(t, u, func(c *Config) { secured(t, a, c); c.SSENode.HeadTimeout = 2 * time.Second })
	s := openTLS(t, n, a, "/events?channel=a", "")
	answer := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(wait))
		_, _ = io.WriteString(c, text)
		b, err := io.ReadAll(c)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("%.20q: still open", text)
		}
		return string(b)
	}
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" // and no more
	var wg sync.WaitGroup
	for range 20 {
		for _, text := range []string{"", hello, "\x16\x03\x01\xff\xff", strings.Repeat("junk", 10_000), "\x00"} {
			wg.Go(func() { answer(text) })
		}
	}
	for i := range 5 {
		u.publish("a", fmt.Sprint(i))
		want(t, s, "", fmt.Sprint(i))
		openTLS(t, n, a, "/events?channel=a", "").Close()
	}
	wg.Wait()
	for _, text := range []string{"GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n", "POST /x HTTP/1.1\r\n\r\n"} {
		if b := answer(text); !strings.HasPrefix(b, "HTTP/1.1 400 ") || !strings.Contains(b, "https") {
			t.Errorf("plain HTTP: %q", b)
		}
	}
	until(t, "all failures are counted", func() bool { return n.stats.handshakes.Load() >= 82 }) // who says nothing may go unnoticed
	until(t, "only the good stream is open", func() bool { return n.stats.open() == 1 })
	if r := n.stats.refused.Load(); r != 0 {
		t.Errorf("%d requests refused: there was none", r)
	}
	// A client that does not know the authority leaves by itself.
	if c, err := tls.Dial("tcp", n.Addr().String(), nil); err == nil {
		c.Close()
		t.Error("an unknown authority is trusted")
	}
}

// New connections get the new certificate, streams that are there go on.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	u, a := newUpstream(t), embedded.TestAuthority(t)
	var files TLSSettings
	n := startNode(t, u, func(c *Config) { secured(t, a, c); files = c.SSENode.TLS })
	s := openTLS(t, n, a, "/events?channel=a", "")
	cert, key := a.Issue(t, "renewed")
	for from, to := range map[string]string{cert: files.Cert, key: files.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the new certificate is shown", func() bool {
		c := dialTLS(t, n, a, 0)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName == "renewed"
	})
	u.publish("a", "on the old one")
	want(t, s, "", "on the old one")
	openTLS(t, n, a, "/events?channel=a", "")
}

func TestTLSSettings(t *testing.T) {
	a := embedded.TestAuthority(t)
	cert, key := a.Issue(t, "node")
	_, other := a.Issue(t, "other")
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	f := func(certFile, keyFile, engine string, words ...string) {
		t.Helper()
		cfg := worker.Default[Config]()
		cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		cfg.SSENode.TLS, cfg.SSENode.Engine = TLSSettings{certFile, keyFile}, engine
		_, err := New(cfg, embedded.TestLog(t))
		if err == nil {
			t.Fatalf("%q %q %q: a node", certFile, keyFile, engine)
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q: want %q in it", err, word)
			}
		}
		if strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%q shows the key", err)
		}
	}
	f(cert, "", "auto", "SSENODE_TLS_CERT=", "SSENODE_TLS_KEY=", "both")
	f("", key, "auto", "SSENODE_TLS_CERT=", "SSENODE_TLS_KEY=", "both")
	f(cert, key, "epoll", `SSENODE_ENGINE="epoll"`, "SSENODE_TLS_CERT=", "portable")
	f("/nowhere.pem", key, "auto", `SSENODE_TLS_CERT="/nowhere.pem"`, "no such file")
	f(cert, other, "auto", "SSENODE_TLS_CERT=", "SSENODE_TLS_KEY=", "match")
	f(cert, string(content), "auto", "SSENODE_TLS_KEY=", "[redacted]")
}
