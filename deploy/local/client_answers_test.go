package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// What ends the JavaScript client, and what does not: the table of its README. An
// EventSource would be closed by each of these answers.
func TestClientAnswers(t *testing.T) {
	p := newPages(t, 1)
	var asked, refusals atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if asked.Add(1) <= refusals.Load() {
			code, body := r.URL.Path[1:4], fmt.Sprintf(`{"error":"it is %s"}`, r.URL.Path[1:4])
			if strings.HasPrefix(r.URL.Path, "/403/c") {
				body = `{"error":"Forbidden","channel":"a"}`
			}
			w.WriteHeader(map[string]int{"204": 204, "400": 400, "401": 401, "403": 403, "404": 404, "408": 408, "413": 413, "414": 414,
				"429": 429, "431": 431, "500": 500, "502": 502, "503": 503}[code])
			if code != "204" {
				fmt.Fprint(w, body)
			}
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 20\n\nevent: connected\ndata: {\"clientId\":\"x\",\"node\":\"n\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	b := p.tab(t)
	// Its delays are long for a test; for answers and signs of life it waits as ever.
	b.run(`window.realTimeout = setTimeout, window.setTimeout = (f, ms) => realTimeout(f, [10e3, 75e3].includes(ms) ? ms : Math.min(ms, 50)); 0`, nil)
	f := func(path string, times int64, state, message string) {
		t.Helper()
		asked.Store(0)
		refusals.Store(times)
		b.run(`states.length = errors.length = 0`, nil)
		b.begin(p.server, fmt.Sprintf(`{server: %q, share: false}`, server.URL+path), "a", "b")
		b.until(fmt.Sprintf(`sluice.status.state === %q`, state))
		var got string
		b.run(`[...states.map(s => s.error), ...errors].find(e => e) ?? ""`, &got)
		if want := min(times+1, map[string]int64{"open": times + 1, "closed": 1}[state]); got != message || asked.Load() != want {
			t.Errorf("%s: %q after %d requests, want %q after %d", path, got, asked.Load(), message, want)
		}
		b.run(`sluice.close()`, nil)
	}
	f("/204", 9, "closed", "204")
	for _, code := range []string{"400", "401", "403", "413", "414", "431"} {
		f("/"+code, 9, "closed", code+" it is "+code)
	}
	for _, code := range []string{"404", "408", "429", "500", "502", "503"} {
		f("/"+code, 3, "open", code+" it is "+code)
	}
	f("/403/channel", 1, "open", "403 Forbidden a") // the other one comes
}

// A node that is full tells a poll when to come back, and a page of another origin
// heeds it.
func TestClientHeedsRetryAfter(t *testing.T) {
	p := newPages(t, 1, "SSENODE_MAX_CONNECTIONS=1", "SSENODE_AWAY_RETRY=40s")
	p.open(0, "/events?channel=other")
	front, err := url.Parse(p.server)
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(front)
	buffering := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			<-r.Context().Done()
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(buffering.Close)
	b := p.tab(t)
	b.run(`window.realTimeout = setTimeout, window.setTimeout = (f, ms) => realTimeout(f, ms === 10e3 ? 300 : ms); 0`, nil)
	b.begin(buffering.URL, `{share: false}`, "a")
	b.until(`states.some(s => s.error?.startsWith("503 "))`)
	// By itself it would come after one to three seconds.
	var after float64
	if b.run(`states.find(s => s.error?.startsWith("503 ")).retryIn`, &after); after < 20e3 {
		t.Errorf("it comes back after %v ms, the node said 20 to 60 s", after)
	}
	b.run(`sluice.close()`, nil)
}
