package ssenode

import (
	"net/http"
	"strings"
	"testing"
)

// What pages of other origins may see, by the setting.
func TestCORS(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	type answer struct{ origin, credentials, vary string }
	all := answer{"*", "", ""}
	n := startNode(t, u, nil)
	f := func(n *Node, from string, want answer) {
		t.Helper()
		var lines []string
		if from != "" {
			lines = []string{"Origin: " + from}
		}
		for _, path := range []string{"/events?channel=a", "/poll?channel=a", "/events", "/nothing", "/version"} {
			h := ask(t, n, path, lines...).header
			got := answer{h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Credentials"), h.Get("Vary")}
			if got != want {
				t.Errorf("%s from %q: got %+v, want %+v", path, from, got, want)
			}
			// An answer to fetch may say when to come again, and is read by the page.
			isStream := strings.HasPrefix(h.Get("Content-Type"), "text/event-stream")
			if shown := h.Get("Access-Control-Expose-Headers") == "Retry-After"; !isStream && shown != (want.origin != "") {
				t.Errorf("%s from %q: Retry-After shown: %v", path, from, shown)
			}
		}
		req, err := http.NewRequest(http.MethodOptions, base(n)+"/events?channel=a", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", from)
		req.Header.Set("Access-Control-Request-Method", "GET")
		req.Header.Set("Access-Control-Request-Headers", "authorization,last-event-id")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		h := resp.Header
		got := answer{h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Credentials"), h.Get("Vary")}
		allowed := h.Get("Access-Control-Allow-Headers")
		named := strings.Contains(allowed, "Last-Event-ID") && strings.Contains(allowed, "Authorization")
		if resp.StatusCode != 204 || got != want || named != (want.origin != "") {
			t.Errorf("preflight from %q: %d, %v", from, resp.StatusCode, h)
		}
	}
	f(n, "", all)
	f(n, "https://evil.example", all)
	f(n, "null", all)

	named := func(s *Settings) {
		if err := s.Origins.Decode("https://a.example, https://*.b.example, http://localhost:3000"); err != nil {
			t.Fatal(err)
		}
	}
	n = startNode(t, u, func(c *Config) { named(&c.SSENode) })
	none := answer{"", "", "Origin"}
	f(n, "", none)
	f(n, "https://a.example", answer{"https://a.example", "", "Origin"})
	f(n, "http://localhost:3000", answer{"http://localhost:3000", "", "Origin"})
	f(n, "https://x.y.b.example", answer{"https://x.y.b.example", "", "Origin"})
	for _, other := range []string{"https://evil.example", "http://a.example", "https://a.example:8443", "https://a.example.evil.example",
		"https://b.example", "https://evilb.example", "https://evil.example/.b.example", "https://.b.example", "null", "https://a.example, https://evil.example"} {
		f(n, other, none)
	}
	n = startNode(t, u, func(c *Config) { named(&c.SSENode); c.SSENode.Credentials = true })
	f(n, "https://a.example", answer{"https://a.example", "true", "Origin"})
	f(n, "https://evil.example", none)
}

// A page of another origin cannot open the stream of a user who is signed in by
// cookie, unless it is one that may.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	open := guarded(t, u, nil)
	strict := guarded(t, u, func(s *Settings) {
		if err := s.Origins.Decode("https://a.example,https://*.b.example"); err != nil {
			t.Fatal(err)
		}
		s.Credentials = true
	})
	good := hs(t)
	f := func(n *Node, status int, lines ...string) {
		t.Helper()
		for _, path := range []string{"/events?channel=x", "/mine", "/poll?channel=x&timeout=0"} {
			a := ask(t, n, path, lines...)
			if a.status != status {
				t.Errorf("%s with %q: got %d %s, want %d", path, lines[1:], a.status, a.body, status)
			}
			if status == 403 && !strings.Contains(a.body, `"error":"Forbidden","origin":`) {
				t.Errorf("%s with %q: %s", path, lines[1:], a.body)
			}
		}
	}
	for _, n := range []*Node{open, strict} {
		host := n.Addr().String()
		f(n, 200, cookie(good)) // no browser, or one that says nothing for pages of the same host
		f(n, 200, cookie(good), "Sec-Fetch-Site: same-origin")
		f(n, 200, cookie(good), "Sec-Fetch-Site: none") // typed in
		f(n, 200, cookie(good), "Origin: http://"+host)
		f(n, 200, cookie(good), "Origin: https://"+host)
		f(n, 200, cookie(good), "Origin: http://"+host, "Sec-Fetch-Site: same-origin")
		f(n, 403, cookie(good), "Origin: https://evil.example")
		f(n, 403, cookie(good), "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
		f(n, 403, cookie(good), "Origin: null")
		f(n, 403, cookie(good), "Origin: https://evil.example", "Origin: http://"+host)
		f(n, 403, cookie(good), "Sec-Fetch-Site: cross-site") // an image, a link
		f(n, 403, cookie(good), "Sec-Fetch-Site: same-site")
		f(n, 403, cookie(good), "Origin: http://"+host, "Sec-Fetch-Site: cross-site")
		// Only the cookie comes by itself.
		f(n, 200, bearer(good), cookie(good), "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
	}
	f(open, 403, cookie(good), "Origin: https://a.example") // all may connect, but not as the user
	f(strict, 200, cookie(good), "Origin: https://a.example", "Sec-Fetch-Site: cross-site")
	f(strict, 200, cookie(good), "Origin: https://c.b.example", "Sec-Fetch-Site: same-site")
	f(strict, 403, cookie(good), "Origin: http://a.example", "Sec-Fetch-Site: cross-site")
	f(strict, 403, cookie(good), "Origin: https://b.example")
}
