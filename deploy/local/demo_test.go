package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sluice/publisher"
	"sluice/shared/certs"
)

// workersOf are the bridges and nodes as the front tells them.
func workersOf(t *testing.T, site string) (all []state) {
	t.Helper()
	var answer struct{ Bridges, Nodes []state }
	_, body := fetch(t, site+"/demo/workers")
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return append(answer.Bridges, answer.Nodes...)
}

// lastWords are how a child's process has ended, while it was not started again.
func lastWords(c *child) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cmd.ProcessState.String()
}

// What is killed is gone at once and comes back where it was; streams go on by another
// node, and when the leading bridge is killed by the other one. A worker that nobody
// killed and that ends comes back, too.
func TestDemoKills(t *testing.T) {
	t.Parallel()
	cfg := localConfig()
	cfg.Local.Simulate = "none"
	l, _ := runLocal(t, cfg, io.Discard)
	site := "http://" + browsable(l.front.ln.Addr())
	led := func() (name string) {
		for _, w := range workersOf(t, site) {
			if w.Role == "leader" {
				name = w.Name
			}
		}
		return name
	}
	all := func() bool {
		hot := 0
		for _, w := range workersOf(t, site) {
			if w.Pid == 0 {
				return false
			}
			if w.Role == "hot standby" {
				hot++
			}
		}
		return hot == 1
	}
	var before string
	ready := func() bool { before = led(); return before != "" && all() }
	until(t, "a bridge leads and the other one is hot", ready)
	client, err := publisher.Open(l.redisURL, certs.Client{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	st := openURL(t, site+"/events?channel=x")
	positioned(t, st)
	if got := postTo(t, site+"/demo/drop", ""); got != `200 {"dropped":1}` {
		t.Errorf("drop: %s", got)
	}
	if ev, err := st.NextData(wait); err == nil {
		t.Errorf("a dropped stream brings %+v", ev)
	}

	// A node: its clients hear nothing, and what is published meanwhile is not lost.
	st = openURL(t, "http://"+l.nodes[0].hello.Addr+"/events?channel=x")
	positioned(t, st)
	pid := l.nodes[0].state().Pid
	if got := postTo(t, site+"/demo/kill/node1", ""); got != fmt.Sprintf(`200 {"killed":"node1","pid":%d}`, pid) {
		t.Errorf("kill: %s", got)
	}
	if how := lastWords(l.nodes[0]); how != "signal: killed" {
		t.Errorf("it ended by %q", how)
	}
	if ev, err := st.NextData(wait); err == nil {
		t.Errorf("a killed node has sent %+v", ev)
	}
	if got := postTo(t, site+"/demo/kill/node1", ""); !strings.HasPrefix(got, "409 ") {
		t.Errorf("kill what is dead: %s", got)
	}
	if err := client.Publish(t.Context(), "x", "meanwhile").Err(); err != nil {
		t.Fatal(err)
	}
	st = openURL(t, site+"/events?channel=x&lastEventId="+st.LastEventID())
	want(t, st, "", "meanwhile")
	until(t, "node1 is back", func() bool {
		code, _ := fetch(t, "http://"+l.nodes[0].hello.Addr+"/version")
		return code == http.StatusOK
	})

	// The leader: all that is published before the other one leads comes, in order.
	until(t, "a bridge leads and the other one is hot", ready)
	if got := postTo(t, site+"/demo/kill/leader", ""); !strings.HasPrefix(got, `200 {"killed":"`+before+`"`) {
		t.Errorf("kill the leader: %s", got)
	}
	n := 0
	until(t, "the other one leads", func() bool {
		if err := client.Publish(t.Context(), "x", fmt.Sprint(n)).Err(); err != nil {
			t.Fatal(err)
		}
		n++
		now := led()
		return now != "" && now != before
	})
	for i := range n {
		want(t, st, "", fmt.Sprint(i))
	}
	until(t, "all run again", all)
	if err := l.nodes[1].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "node2 is back", func() bool { s := l.nodes[1].state(); return s.Starts == 2 && s.Pid != 0 })
	if got := postTo(t, site+"/demo/kill/redis", ""); !strings.HasPrefix(got, "404 ") {
		t.Errorf("kill something else: %s", got)
	}
}

// Only pages of this machine, and programs on it, may break things or sign in.
func TestDemoIsOwn(t *testing.T) {
	d := &demo{front: &front{}, secret: "s"}
	mux := http.NewServeMux()
	d.serve(mux)
	f := func(want int, method, path, from, host string, header ...string) {
		t.Helper()
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr, r.Host = from+":50000", host
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s %s from %s to %s %q: %d %s, want %d", method, path, from, host, header, w.Code, w.Body, want)
		}
	}
	const local = "127.0.0.1"
	for path, ok := range map[string]int{"/demo/drop": 200, "/demo/kill/no": 404, "/demo/sign-in?user=alice": 200, "/demo/sign-in?user=alice&role=admin": 200} {
		f(ok, "POST", path, local, "localhost:8080")
		f(ok, "POST", path, "[::1]", "[::1]:8080")
		f(ok, "POST", path, local, "127.0.0.1:8080", "Origin", "http://127.0.0.1:8080")
		f(ok, "POST", path, local, "localhost", "Origin", "http://localhost", "Sec-Fetch-Site", "same-origin")
		f(405, "GET", path, local, "localhost:8080")
		f(403, "POST", path, "192.168.1.7", "localhost:8080")
		f(403, "POST", path, local, "evil.example:8080")
		f(403, "POST", path, local, "localhost.evil.example")
		f(403, "POST", path, local, "")
		f(403, "POST", path, local, "localhost:8080", "Origin", "http://evil.example")
		f(403, "POST", path, local, "localhost:8080", "Origin", "null")
		f(403, "POST", path, local, "localhost:8080", "Origin", "http://localhost:8081")
		f(403, "POST", path, local, "localhost:8080", "Sec-Fetch-Site", "cross-site")
	}
	for _, user := range []string{"", "a b", "a:b", "*", strings.Repeat("x", 33)} {
		f(400, "POST", "/demo/sign-in?user="+url.QueryEscape(user), local, "localhost")
		if user != "" { // a role may be left out
			f(400, "POST", "/demo/sign-in?user=alice&role="+url.QueryEscape(user), local, "localhost")
		}
	}
}

// Nobody but alice reads user:alice, by the front or past it; all that the README's
// examples use, and the simulations, is for everyone.
func TestSignIn(t *testing.T) {
	t.Parallel()
	cfg := localConfig()
	l, _ := runLocal(t, cfg, io.Discard)
	site := "http://" + browsable(l.front.ln.Addr())
	token := func(user string) string {
		var answer struct{ Token string }
		got := postTo(t, site+"/demo/sign-in?user="+user, "")
		if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "200 ")), &answer); err != nil || answer.Token == "" {
			t.Fatalf("sign in: %s", got)
		}
		return answer.Token
	}
	alice, bob := token("alice"), token("bob")
	node := "http://" + l.nodes[0].hello.Addr
	f := func(want int, query, token string) {
		t.Helper()
		for _, base := range []string{site, node} {
			if code, body := fetch(t, base+"/poll?"+query+"&token="+token); code != want {
				t.Errorf("%s %.10s: %d %s, want %d", query, token, code, body, want)
			}
		}
	}
	until(t, "the nodes are ready", func() bool {
		code, _ := fetch(t, "http://"+l.nodes[0].hello.Admin+"/readyz")
		return code == http.StatusOK
	})
	f(200, "channel=user:alice", alice)
	f(403, "channel=user:alice", bob)
	for _, query := range []string{"channel=user:alice", "pattern=user:*", "pattern=user:>", "pattern=*:alice", "pattern=*:>", "pattern=>", "channel=mine&channel=user:bob"} {
		if _, body := fetch(t, node+"/poll?"+query); strings.TrimSpace(body) != `{"error":"Unauthorized","code":"missing"}` {
			t.Errorf("without a token %s: %s", query, body)
		}
	}
	for _, query := range []string{"channel=race-events:demo", "channel=mine", "channel=sse:broadcast", "pattern=stocks:*", "pattern=game:room1:>", "channel=billStatusChannel"} {
		if code, body := fetch(t, site+"/poll?"+query); code != 200 {
			t.Errorf("without a token %s: %d %s", query, code, body)
		}
	}
}

// LOCAL_AUTH: auto is on only where simulations of an embedded Redis play for users;
// off means that nobody signs in and everything is open.
func TestLocalAuth(t *testing.T) {
	t.Parallel()
	f := func(want bool, change func(*config)) {
		t.Helper()
		cfg := localConfig()
		change(&cfg)
		if err := cfg.Validate(); err != nil || cfg.auth != want {
			t.Errorf("%q, simulate %q, redis %q: %v, %v", cfg.Local.Auth, cfg.Local.Simulate, cfg.Redis.URL, cfg.auth, err)
		}
	}
	f(true, func(*config) {})
	f(true, func(c *config) { c.Local.Simulate = "stocks,orders" })
	f(true, func(c *config) { c.Local.Simulate = "notifications" })
	f(false, func(c *config) { c.Local.Simulate = "stocks" })
	f(false, func(c *config) { c.Local.Simulate = "none" })
	f(true, func(c *config) { c.Local.Simulate, c.Local.Auth = "none", "on" })
	f(false, func(c *config) { c.Redis.URL = "redis://127.0.0.1:1" })
	f(false, func(c *config) { c.Local.Auth = "off" })
	cfg := localConfig()
	cfg.Local.Auth = "yes"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), `LOCAL_AUTH="yes"`) {
		t.Error(err)
	}

	cfg = localConfig()
	cfg.Local.Auth, cfg.Local.Simulate, cfg.Local.Nodes = "off", "none", 1
	l, _ := runLocal(t, cfg, io.Discard)
	site := "http://" + browsable(l.front.ln.Addr())
	if code, body := fetch(t, site+"/poll?channel=user:alice"); code != 200 {
		t.Errorf("LOCAL_AUTH=off: %d %s", code, body)
	}
	if got := postTo(t, site+"/demo/sign-in?user=alice", ""); !strings.HasPrefix(got, "400 ") {
		t.Errorf("LOCAL_AUTH=off: %s", got)
	}
}
