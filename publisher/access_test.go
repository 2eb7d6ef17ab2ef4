package publisher

import (
	"net/http"
	"strings"
	"testing"

	"sluice/shared/embedded"
)

// Each key has a rate of its own; a list counts as what it holds, whole or not at
// all.
func TestServeRate(t *testing.T) {
	const one, two = "the-first-key-of-all", "and-the-second-of-them"
	url := embedded.TestRedis(t).URL()
	a := serve(t, url, func(c *ServeConfig) {
		_ = c.Publisher.APIKeys.Decode(one + "," + two)
		c.Publisher.Rate, c.Publisher.MaxItems = 0.001, 3
	})
	sub := subscribe(t, url, "*")
	bearer := "Authorization: Bearer "
	a.want(200, published, "/publish/a", "1", bearer+one)
	r := a.want(429, "more than 0.001 messages a second", "/publish", `[{"channel":"a","data":2},{"channel":"a","data":3},{"channel":"a","data":4}]`, bearer+one)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	a.want(200, published, "/publish/a", "5", bearer+one)
	a.want(200, `[{"success":true`, "/publish", `[{"channel":"a","data":"6"}]`, bearer+one)
	a.want(429, "come back in", "/notify", `{"channel":"a","event":"e","data":7}`, bearer+one)
	a.want(200, published, "/publish/a", "8", bearer+two)
	for _, want := range []string{"1", "5", "6", "8"} {
		sub.gets("a", want)
	}
	if a.refused(rateLimit) != 2 {
		t.Errorf("counted %d", a.refused(rateLimit))
	}
}

// Only who has a key publishes; what is wrong with it is told, and nothing shows it.
func TestServeKeys(t *testing.T) {
	const one, two = "the-first-key-of-all", "and-the-second-of-them"
	url := embedded.TestRedis(t).URL()
	a := serve(t, url, func(c *ServeConfig) {
		c.Publisher.Addr = "0.0.0.0:0" // with keys any address will do
		_ = c.Publisher.APIKeys.Decode(one + "," + two)
	})
	sub := subscribe(t, url, "*")
	for _, path := range []string{"/publish/a", "/publish", "/notify", "/broadcast"} {
		f := func(code string, header ...string) {
			t.Helper()
			r := a.want(401, `{"success":false,"error":"Unauthorized","code":"`+code+`"}`, path, `{}`, header...)
			if r.header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
		}
		f("missing")
		f("malformed", "Authorization: "+one)
		f("malformed", "Authorization: Basic "+one)
		f("malformed", "Authorization: Bearer ")
		f("malformed", "Authorization: Bearer "+one, "Authorization: Bearer "+two)
		f("unknown_key", "Authorization: Bearer "+one[1:])
		f("unknown_key", "Authorization: Bearer "+one+","+two)
		f("unknown_key", "Authorization: Bearer no-such-key-in-the-list")
		// Nobody reads a megabyte of a stranger.
		a.wantRaw(401, `"code":"missing"`, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
	}
	a.want(200, published, "/publish/a", "mine", "Authorization: Bearer "+two)
	a.want(200, published, "/publish/a", strings.Repeat("x", 1_000_000), "Authorization: bearer "+one)
	sub.gets("a", "mine")
	sub.gets("a", strings.Repeat("x", 1_000_000))
	if r := a.send(http.MethodGet, "/openapi.json", ""); r.status != 200 {
		t.Errorf("the description needs a key: %d", r.status)
	}
	if a.refused(unauthorized) != 4*9 {
		t.Errorf("counted %d", a.refused(unauthorized))
	}
	for _, secret := range []string{one, two, "no-such-key"} {
		if strings.Contains(a.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// Pages of the same host post; others only if they may.
func TestServeOrigins(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	closed := serve(t, url, nil)
	open := serve(t, url, func(c *ServeConfig) { decode(t, c, "https://a.example,https://*.b.example") })
	all := serve(t, url, func(c *ServeConfig) {
		decode(t, c, "*")
		_ = c.Publisher.APIKeys.Decode("a-key-that-is-long-enough")
	})
	f := func(a *api, status int, allowed string, header ...string) {
		t.Helper()
		for _, path := range []string{"/publish/a", "/broadcast"} {
			r := a.post(path, `{"event":"e","data":1}`, append(header, "Authorization: Bearer a-key-that-is-long-enough")...)
			if r.status != status || r.header.Get("Access-Control-Allow-Origin") != allowed || status == 403 && !strings.Contains(r.body, `{"success":false,"error":"Forbidden"`) {
				t.Errorf("%s with %q: %+v, want %d and %q", path, header, r, status, allowed)
			}
			if exposed := r.header.Get("Access-Control-Expose-Headers"); (exposed == "Retry-After") != (allowed != "") {
				t.Errorf("%s with %q: the page sees %q", path, header, exposed)
			}
		}
	}
	for _, a := range []*api{closed, open} {
		host := a.s.Addr().String()
		f(a, 200, "")
		f(a, 200, "", "Origin: http://"+host)
		f(a, 200, "", "Origin: https://"+host)
		f(a, 200, "", "Origin: http://public.example", "Sec-Fetch-Site: same-origin")
		f(a, 403, "", "Origin: https://evil.example")
		f(a, 403, "", "Origin: null")
		f(a, 403, "", "Origin: http://"+host, "Sec-Fetch-Site: cross-site")
		f(a, 403, "", "Sec-Fetch-Site: cross-site")
		f(a, 403, "", "Origin: https://a.example", "Origin: https://a.example")
	}
	f(closed, 403, "", "Origin: https://a.example")
	f(open, 200, "https://a.example", "Origin: https://a.example", "Sec-Fetch-Site: cross-site")
	f(open, 200, "https://x.b.example", "Origin: https://x.b.example")
	f(all, 200, "*", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")

	p := func(a *api, from, allowed, headers string) {
		t.Helper()
		r := a.send(http.MethodOptions, "/notify", "", "Origin: "+from, "Access-Control-Request-Method: POST")
		if r.status != 204 || r.body != "" || r.header.Get("Access-Control-Allow-Origin") != allowed || r.header.Get("Access-Control-Allow-Headers") != headers {
			t.Errorf("preflight from %s: %+v", from, r)
		}
	}
	const may = "Authorization, Content-Type"
	p(closed, "https://a.example", "", "")
	p(open, "https://a.example", "https://a.example", may)
	p(open, "https://evil.example", "", "")
	p(all, "https://evil.example", "*", may)
	if n := closed.refused(foreignOrigin); n != 2*6 {
		t.Errorf("counted %d", n)
	}
}

func decode(t testing.TB, c *ServeConfig, origins string) {
	t.Helper()
	if err := c.Publisher.Origins.Decode(origins); err != nil {
		t.Fatal(err)
	}
}
