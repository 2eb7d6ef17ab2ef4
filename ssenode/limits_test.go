package ssenode

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
	"sluice/ssenode/limits"
)

// limitCase is a limit of two streams and polls, and clients that it counts together.
type limitCase struct {
	reason limits.Reason
	status int // of a poll over it
	change func(*Settings)
	lines  []string // header of those it counts together
	others []string // header of a client that it does not count with them; nil: there is none
}

func limitCases(t *testing.T) map[string]limitCase {
	proxied := func(s *Settings) {
		s.MaxPerAddress = 2
		if err := s.TrustedProxies.Decode("127.0.0.0/8, 10.0.0.0/8"); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]limitCase{
		"node":      {reason: limits.Node, status: 503, change: func(s *Settings) { s.MaxConnections = 2 }},
		"address":   {reason: limits.Address, status: 429, change: func(s *Settings) { s.MaxPerAddress = 2 }},
		"untrusted": {reason: limits.Address, status: 429, change: func(s *Settings) { s.MaxPerAddress = 2 }, lines: []string{"X-Forwarded-For: 192.0.2.77"}},
		"proxy": {reason: limits.Address, status: 429, change: proxied,
			lines: []string{"X-Forwarded-For: 192.0.2.1, 198.51.100.1, 10.1.1.1"}, others: []string{"X-Forwarded-For: 198.51.100.1, 198.51.100.2"}},
		"forwarded": {reason: limits.Address, status: 429, change: proxied,
			lines: []string{`Forwarded: for=192.0.2.1, for="[2001:db8::1]:80";proto=https`}, others: []string{"Forwarded: for=198.51.100.2"}},
		"subject": {reason: limits.Subject, status: 429,
			change: func(s *Settings) { s.MaxPerSubject, s.JWT.Secret = 2, auth.NewSecret(testSecret) },
			lines:  []string{bearer(hs(t))}, others: []string{bearer(hs(t, "sub", "berta"))}},
	}
}

// stream opens one on a plain connection and reads up to the connected event.
func stream(t testing.TB, n *Node, lines ...string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(wait))
	fmt.Fprintf(c, "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n%s\r\n", headerOf(lines))
	var got strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(got.String(), "event: connected"); {
		k, err := c.Read(buf)
		if got.Write(buf[:k]); err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
	}
	return c.(*net.TCPConn)
}

func headerOf(lines []string) (text string) {
	for _, line := range lines {
		text += line + "\r\n"
	}
	return text
}

// wantAway checks the answer to a stream that is over a limit: nothing for which an
// EventSource would give up, or which would change its position.
func wantAway(t *testing.T, n *Node, a asked) {
	t.Helper()
	text, _ := strings.CutPrefix(a.body, "retry: ")
	ms, err := strconv.Atoi(strings.TrimSuffix(text, "\n\n"))
	wait := n.cfg.SSENode.AwayRetry
	if d := time.Duration(ms) * time.Millisecond; err != nil || d < wait/2 || d > wait*3/2 {
		t.Errorf("body %q, %v: want a retry of about %s", a.body, err, wait)
	}
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %+v", a)
	}
}

// At a limit all is as ever; over it streams are sent away and polls refused, each
// counted; and whatever way a stream ends, there is room for one more.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range limitCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) { testLimit(t, engine, c) })
		})
	}
}

func testLimit(t *testing.T, engineName string, c limitCase) {
	u := newUpstream(t)
	n := startNode(t, u, func(cfg *Config) {
		cfg.SSENode.Engine = engineName
		c.change(&cfg.SSENode)
	})
	counted := func(open int) {
		t.Helper()
		until(t, fmt.Sprint(open, " are counted"), func() bool { return n.gate.Open() == open })
	}
	first, second := stream(t, n, c.lines...), stream(t, n, c.lines...)
	counted(2)
	before := n.gate.Refused(c.reason)
	wantAway(t, n, ask(t, n, "/events?channel=x", c.lines...))
	wantAway(t, n, ask(t, n, "/events/x", append([]string{"Last-Event-ID: e1-1"}, c.lines...)...))
	a := ask(t, n, "/poll?channel=x", c.lines...)
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); a.status != c.status || err != nil || after < 5 || after > 15 || !strings.Contains(a.body, `{"error":"`) {
		t.Errorf("poll: %+v", a)
	}
	if got := n.gate.Refused(c.reason) - before; got != 3 {
		t.Errorf("%d were counted, want 3", got)
	}
	if c.others != nil {
		other := stream(t, n, c.others...)
		counted(3)
		other.Close()
	}
	counted(2)

	write := func(text string) func() {
		return func() {
			conn, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(wait))
			fmt.Fprint(conn, strings.ReplaceAll(text, "HEADER", headerOf(c.lines)))
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	for _, way := range []struct {
		name string
		end  func()
	}{
		{"closed", func() { first.Close() }},
		{"reset", func() { _ = first.SetLinger(0); first.Close() }},
		{"half-closed", func() { _ = first.CloseWrite() }},
		{"flood", func() { _, _ = first.Write(make([]byte, 2*engine.MaxRead)) }},
		{"left before the answer", func() {
			first.Close()
			counted(1)
			conn, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			connects := n.stats.connects.Load()
			fmt.Fprintf(conn, "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n%s\r\n", headerOf(c.lines))
			until(t, "it was a stream", func() bool { return n.stats.connects.Load() > connects })
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}},
		// Requests that never become one.
		{"poll", func() {
			first.Close()
			counted(1)
			write("GET /poll?channel=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nHEADER\r\n")()
		}},
		{"bad request", func() {
			first.Close()
			counted(1)
			write("GET /events?channel=%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nHEADER\r\n")()
			write("GET /events?channel=x&clientId=/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nHEADER\r\n")()
		}},
		{"head", func() {
			first.Close()
			counted(1)
			write("HEAD /events?channel=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nHEADER\r\n")()
		}},
		// Its connection stays.
		{"kept alive", func() {
			first.Close()
			counted(1)
			conn, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(wait))
			for _, path := range []string{"/poll?channel=x", "/events?channel=%zz"} {
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, headerOf(c.lines))
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				counted(1)
			}
		}},
		// One after the other on one connection.
		{"pipelined", func() {
			first.Close()
			counted(1)
			one := "GET /poll?channel=x HTTP/1.1\r\nHost: x\r\nHEADER\r\n"
			write(one + one + one + "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")()
		}},
	} {
		way.end()
		counted(1)
		first = stream(t, n, c.lines...)
		counted(2)
		before := n.gate.Refused(c.reason)
		wantAway(t, n, ask(t, n, "/events?channel=x", c.lines...))
		if got := n.gate.Refused(c.reason) - before; got != 1 || t.Failed() {
			t.Fatalf("after %s: %d were counted, want 1", way.name, got)
		}
	}
	if got := n.stats.closes[limit].Load(); got != 1 {
		t.Errorf("%d were closed for a limit, want the one that sent too much", got)
	}
	first.Close()
	second.Close()
	counted(0)
}

// A stream that the node closes is counted no more, either.
func TestLimitAfterClose(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engineName string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			s := &c.SSENode
			s.Engine = engineName
			s.MaxConnections, s.MaxPerAddress, s.MaxPerSubject = 1, 1, 1
			s.StuckAfter = time.Second
			s.JWT.Secret, s.JWT.Leeway = auth.NewSecret(testSecret), 0
			if err := s.PublicChannels.Decode("loud"); err != nil {
				t.Fatal(err)
			}
		})
		free := func() bool { return n.gate.Open() == 0 && n.gate.Known() == 0 }
		stream(t, n, bearer(hs(t, "exp", in(2*time.Second))))
		until(t, "its token has ended", free)
		if got := n.stats.closes[tokenExpired].Load(); got != 1 {
			t.Errorf("%d closed as token-expired", got)
		}
		conn := frozen(t, n, "/events?channel=loud")
		payload := strings.Repeat("x", 100<<10)
		until(t, "it is stuck", func() bool {
			u.publish("loud", payload)
			return n.stats.closes[stuck].Load() == 1
		})
		until(t, "it is counted no more", free)
		conn.Close()
		stream(t, n, bearer(hs(t))) // the node's end is its own
	})
}

// What an address may do in a second; and then it may again.
func TestLimitRates(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.CallsPerAddress = 2 })
	for _, path := range []string{"/poll?channel=x", "/version", "/nothing"} {
		until(t, "calls are refused", func() bool {
			a := ask(t, n, path)
			return a.status == 429 && a.header.Get("Retry-After") != ""
		})
		until(t, "calls are answered", func() bool { return ask(t, n, path).status != 429 })
	}
	if n.gate.Refused(limits.Calls) == 0 {
		t.Error("none was counted")
	}
	open(t, n, "/events?channel=x") // is no call

	n = startNode(t, u, func(c *Config) { c.SSENode.AttemptsPerAddress = 2 })
	until(t, "attempts are refused", func() bool {
		a := ask(t, n, "/events?channel=x")
		if a.header.Get("Content-Length") == "" {
			return false
		}
		wantAway(t, n, a)
		return true
	})
	until(t, "attempts are allowed", func() bool { return ask(t, n, "/events?channel=x").header.Get("Content-Length") == "" })
	if n.gate.Refused(limits.Attempts) == 0 {
		t.Error("none was counted")
	}
	// A connection that came too soon is not refused for good.
	conn, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { conn.Close() }()
	r := bufio.NewReader(conn)
	poll := func() int {
		_ = conn.SetDeadline(time.Now().Add(wait))
		if _, err := io.WriteString(conn, "GET /poll?channel=x&timeout=0 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	until(t, "one comes too soon", func() bool {
		if poll() == 429 {
			return true
		}
		conn.Close()
		if conn, err = net.Dial("tcp", n.Addr().String()); err != nil {
			t.Fatal(err)
		}
		r = bufio.NewReader(conn)
		return false
	})
	until(t, "it may ask later", func() bool { return poll() == 200 })
	// Further requests for streams on one connection are attempts, too.
	many := strings.Repeat("GET /events?channel=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 20)
	until(t, "a connection may try", func() bool { return strings.HasPrefix(raw(t, n, many), "HTTP/1.1 400") })
	if answer := raw(t, n, many); !strings.Contains(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream") || strings.Count(answer, " 400 ") > 15 {
		t.Errorf("got %s", clip(answer))
	}
}

// The answer arrives, whatever a client has sent behind its request.
func TestSentAwayArrives(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engineName string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engineName; c.SSENode.MaxConnections = 1 })
		stream(t, n)
		for range 50 {
			conn, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(wait))
			// More than is read with the request, so that a close would be a reset.
			if _, err := io.WriteString(conn, "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n\r\n"+strings.Repeat("junk", 7000)); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(conn)
			if err != nil {
				t.Fatalf("after %q: %v", b, err)
			}
			conn.Close()
			answer := string(b)
			if !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(answer, "\n\n") || strings.Contains(answer, "id:") {
				t.Fatalf("got %q", answer)
			}
			head, body, _ := strings.Cut(answer, "\r\n\r\n")
			if !strings.Contains(head, fmt.Sprintf("Content-Length: %d", len(body))) {
				t.Fatalf("got %q", answer)
			}
		}
		until(t, "all are gone", func() bool { return n.away.Load() == 0 })
		if resp, body := get(t, http.MethodHead, base(n)+"/events?channel=x"); resp.StatusCode != 200 || body != "" {
			t.Errorf("HEAD: %d %q", resp.StatusCode, body)
		}
	})
}

// Connections that send nothing do not keep others away, and are not left behind.
func TestHeadless(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.MaxPending = 10; c.SSENode.HeadTimeout = time.Minute })
	s := open(t, n, "/events?channel=x")
	var idle []net.Conn
	for i := range 50 {
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /events?channel=x HTTP/1.1\r\nHost"[:i%2*20])
		idle = append(idle, c)
	}
	other := open(t, n, "/events?channel=x")
	if n := n.gate.Waiting(); n > 10 {
		t.Errorf("%d wait for a request, want at most 10", n)
	}
	if got := n.gate.Refused(limits.Pending); got < 30 {
		t.Errorf("%d made room, want about 40", got)
	}
	u.publish("x", "to both")
	want(t, s, "", "to both")
	want(t, other, "", "to both")
	for _, c := range idle {
		c.Close()
	}
	until(t, "none waits", func() bool { return n.gate.Waiting() == 0 })
}

// Sizes and times of requests are counted, too.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		s := &c.SSENode
		s.MaxHead, s.MaxBody, s.MaxChannels, s.HeadTimeout = 2000, 3000, 1, 200*time.Millisecond
	})
	f := func(reason limits.Reason, status, request string) {
		t.Helper()
		before := n.gate.Refused(reason)
		if answer := raw(t, n, request); status == "" && answer != "" || status != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+status) {
			t.Errorf("%s: got %s", reason, clip(answer))
		}
		if n.gate.Refused(reason) != before+1 {
			t.Errorf("%s is not counted", reason)
		}
	}
	pad := strings.Repeat("x", 1500)
	f(limits.Head, "431", "GET /events?channel=x HTTP/1.1\r\nHost: x\r\nX: "+pad+"\r\nY: "+pad+"\r\n\r\n")
	f(limits.Body, "413", "POST /anything HTTP/1.1\r\nHost: x\r\nContent-Length: 3001\r\n\r\n")
	f(limits.Time, "", "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n") // closed
	f(limits.Channels, "400", "GET /events?channel=x&channel=y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if answer := raw(t, n, "POST /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3000\r\n\r\n"+pad+pad); !strings.HasPrefix(answer, "HTTP/1.1 404") {
		t.Errorf("a body that is allowed: %s", clip(answer))
	}
}
