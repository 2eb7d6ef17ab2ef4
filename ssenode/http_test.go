package ssenode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: wait, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.MaxChannels = 3
		if err := c.SSENode.Endpoints.Decode("/race=race-events:{query.urlSlug}; /mine=user:{claim.sub}"); err != nil {
			t.Fatal(err)
		}
	})
	f := func(method, path string, status int, text string) {
		t.Helper()
		resp, body := get(t, method, base(n)+path)
		var p problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: body %q: %v", method, path, body, err)
		}
		if resp.StatusCode != status || !strings.Contains(p.Error, text) {
			t.Errorf("%s %s: got %d %q, want %d with %q", method, path, resp.StatusCode, p.Error, status, text)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: header %v", method, path, resp.Header)
		}
	}
	long := strings.Repeat("x", 5000)
	f("GET", "/events", 400, "no channel")
	f("GET", "/events/", 400, "no channel")
	f("GET", "/events?other=1", 400, "no channel")
	f("GET", "/events?channel=a&channel=b&channels=c,d", 400, "4 channels and patterns: at most 3")
	f("GET", "/events?channel="+long, 400, "1024")
	f("GET", "/events/"+long, 400, "1024")
	f("GET", "/events?channel=%zz", 400, "hexadecimal")
	f("GET", "/events?pattern=a*", 400, "%2A")
	f("GET", "/events?pattern=%3E:a", 400, "pattern")
	f("GET", "/events?channel=a&clientId=a/b", 400, "clientId")
	f("GET", "/events?channel=a&clientId="+strings.Repeat("a", 65), 400, "clientId")
	f("GET", "/events?channel=a&wrap=yes", 400, "wrap")
	f("GET", "/race", 400, `"urlSlug" is missing`)
	f("GET", "/race?urlSlug=", 400, `"urlSlug" is missing`)
	f("GET", "/race?urlSlug=a:b", 400, "colon")
	f("GET", "/mine?claim.sub=x", 401, "Unauthorized")
	f("GET", "/nothing", 404, "/events?channel=NAME")
	f("GET", "/race/x?urlSlug=1", 404, "")
	f("POST", "/events?channel=a", 405, "POST")
	f("DELETE", "/version", 405, "DELETE")
	if open := n.stats.open(); open != 0 {
		t.Errorf("%d streams are open", open)
	}
	if topics, _ := n.hub.counts(); topics != 0 {
		t.Errorf("%d topics are left", topics)
	}
	if resp, body := get(t, "GET", base(n)+"/version"); resp.StatusCode != 200 || !strings.Contains(body, "version") {
		t.Errorf("version: %d %s", resp.StatusCode, body)
	}
	if resp, _ := get(t, "HEAD", base(n)+"/events?channel=a"); resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("HEAD: %d %v", resp.StatusCode, resp.Header)
	}
	resp, _ := get(t, "OPTIONS", base(n)+"/events?channel=a")
	if resp.StatusCode != 204 || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("OPTIONS: %d %v", resp.StatusCode, resp.Header)
	}
}

// raw sends text on a plain connection and returns all that comes back.
func raw(t *testing.T, n *Node, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Logf("write: %v", err) // the node may have closed already
	}
	b, _ := io.ReadAll(c) // a reset after the answer is fine
	return string(b)
}

func TestBrokenRequests(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.HeadTimeout = 200 * time.Millisecond })
	f := func(request, status, text string) {
		t.Helper()
		answer := raw(t, n, request)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status) || !strings.Contains(answer, text) || !strings.Contains(answer, `{"error":`) {
			t.Errorf("%q: got %q, want %s with %q", clip(request), clip(answer), status, text)
		}
	}
	f("GET /events?channel="+strings.Repeat("a", 1<<20)+" HTTP/1.1\r\nHost: x\r\n\r\n", "431", "16384 bytes")
	f("GET /events?channel=a HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 1<<20)+"\r\n\r\n", "431", "16384 bytes")
	f("POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", "413", "65536 bytes")
	f("nonsense\r\n\r\n", "400", "HTTP")
	f("GET /events/%z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400", "hexadecimal")
	// Slow loris, a head or a body that never ends, and nothing at all: closed, without a
	// word. Any answer would end an EventSource for good.
	for _, request := range []string{"GET /events?channel=a HTTP/1.1\r\nHost:", "GET /ev", "POST /refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", ""} {
		if answer := raw(t, n, request); answer != "" {
			t.Errorf("%q: got %q", request, answer)
		}
	}
}

// Old proxies speak HTTP/1.0 and close; a stream must live on all the same.
func TestOldProxies(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		for _, head := range []string{
			"GET /events?channel=a HTTP/1.0\r\n\r\n",
			"GET /events?channel=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			c, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(wait))
			fmt.Fprint(c, head)
			r := bufio.NewReader(c)
			for line := ""; !strings.HasPrefix(line, "event: connected"); {
				if line, err = r.ReadString('\n'); err != nil {
					t.Fatalf("%q: %v", head, err)
				}
			}
			u.publish("a", "hello")
			for line := ""; line != "data: hello\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					t.Fatalf("%q: %v", head, err)
				}
			}
		}
	})
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		if err := c.SSENode.Endpoints.Decode("/api/events/race=race-events:{query.urlSlug}; /getBillStatus=billStatusChannel;" +
			"/game=game:{query.room},game:{query.room}:{query.player}; /room=game:{query.room}:*; /own=sse:channel:{clientId}"); err != nil {
			t.Fatal(err)
		}
	})
	f := func(path, channel string) {
		t.Helper()
		s := open(t, n, path)
		u.publish("race-events:other", "not this")
		u.publish(channel, "this")
		want(t, s, "", "this")
	}
	f("/api/events/race?urlSlug=demo&_=17", "race-events:demo")
	f("/api/events/race?urlSlug=*", "race-events:*") // a value is never a pattern
	f("/api/events/race?urlSlug=%3E", "race-events:>")
	f("/api/events/race?urlSlug=a.b%25", "race-events:a.b%")
	f("/api/events/race?urlSlug=demo&channel=race-events:other", "race-events:demo") // cannot widen it
	f("/getBillStatus", "billStatusChannel")
	f("/game?room=r&player=p", "game:r:p")
	f("/game?room=r&player=p", "game:r")
	f("/room?room=r", "game:r:anybody")
	f("/own?clientId=c1", "sse:channel:c1")
}

func TestEndpointsSyntax(t *testing.T) {
	f := func(value, text string) {
		t.Helper()
		var e Endpoints
		err := e.Decode(value)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", value, err, text)
		}
	}
	f("/a", "position 1")
	f("/a=b; c=d", "position 7")
	f("/a=b;/a=c", "twice")
	f("/events=a", "own")
	f("/events/x=a", "own")
	f("/publish=a", "own")
	f("/=a", "begins with /")
	f("/a%20b=a", "percent-encoding")
	f("/a=", "empty")
	f("/a=b,,c", "empty")
	f("/a=b{x}", "{query.NAME}")
	f("/a={query.}", "{query.NAME}")
	f("/a={query.x", "partner")
	f("/a=b:c*", "%2A")
	f("/a=>:b", ">")
	var e Endpoints
	if err := e.Decode(" /a = b , c ;; "); err != nil {
		t.Error(err)
	}
	if _, ok := e.lookup("/a"); !ok {
		t.Error("/a is not there")
	}
}
