package publisher

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/shared/embedded"
)

// Without Redis the answer is 503, at once, and says that nothing was published;
// when Redis is back, it goes on.
func TestServeWithoutRedis(t *testing.T) {
	t.Parallel()
	r := embedded.TestRedis(t)
	a := serve(t, r.URL(), nil)
	a.want(200, published, "/publish/a", "before")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the server is not ready", func() bool { return a.s.ready() != nil })
	if err := a.s.ready(); !strings.Contains(err.Error(), "cannot use Redis") {
		t.Error(err)
	}
	const away = `{"success":false,"error":"Redis does not answer: this was not published"}`
	for path, body := range map[string]string{
		"/publish/a": "x", "/publish": `[{"channel":"a","data":1},{"channel":"a"}]`,
		"/notify": `{"channel":"a","event":"e","data":1}`, "/broadcast": `{"event":"e","data":1}`,
	} {
		if r := a.want(503, away, path, body); r.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
	}
	// What is wrong in itself is still told.
	a.want(200, `[{"success":false,"error":"\"data\" is missing"}]`, "/publish", `[{"channel":"a"}]`)
	a.want(400, "want JSON", "/notify", "")
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	a.ready()
	sub := subscribe(t, r.URL(), "*")
	a.want(200, published, "/publish/a", "after")
	sub.gets("a", "after")
	if log := a.log.String(); strings.Count(log, "Redis does not answer") != 1 || strings.Count(log, "Redis answers again") != 1 {
		t.Errorf("log: %s", log)
	}
	if a.s.stats.uncertain.Load() != 0 {
		t.Error("a message whose fate is known was called uncertain")
	}
}

// A server that starts before Redis says so, and is ready once Redis is there.
func TestServeBeforeRedis(t *testing.T) {
	t.Parallel()
	r := embedded.TestRedis(t)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	a := serveWith(t, r.URL(), nil, nil)
	until(t, "it has looked for Redis", a.s.link.away)
	a.want(503, awayText, "/publish/a", "x")
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	a.ready()
	a.want(200, published, "/publish/a", "x")
}

// An answer of Redis that never comes: the message may have been published, and was,
// and that is what is said. Who comes later does not wait for it.
func TestServeUncertain(t *testing.T) {
	t.Parallel()
	r := embedded.TestRedis(t)
	sub := subscribe(t, r.URL(), "*")
	p := embedded.TestProxy(t, r.Addr())
	a := serve(t, "redis://"+p.Addr()+"?read_timeout=500ms", nil)
	for path, body := range map[string]string{"/publish/a": "x", "/publish": `[{"channel":"a","data":"x"},{"channel":"a"}]`} {
		a.ready()
		p.Swallow.Store(true)
		answer := a.post(path, body)
		if strings.Contains(answer.body, awayText) {
			// Its look at Redis came first: then nothing was sent.
			p.Swallow.Store(false)
			p.Cut()
			continue
		}
		if answer.status != 503 || !strings.Contains(answer.body, `"error":"`+uncertainText+`","uncertain":true}`) {
			t.Errorf("%s: %d %s", path, answer.status, answer.body)
		}
		sub.gets("a", "x")
		until(t, "Redis is known to be away", a.s.link.away)
		a.want(503, `"`+awayText+`"}`, "/publish/a", "never sent")
		p.Swallow.Store(false)
		p.Cut()
	}
	a.ready()
	a.want(200, published, "/publish/a", "end")
	sub.gets("a", "end")
}

// Of a batch of five: the third is refused, or the connection ends after two
// answers, or there is none. What is confirmed is told from what is not, and what
// may have been published from what was not.
func TestAskBroken(t *testing.T) {
	f := func(third, want string) {
		t.Helper()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				oldRedis(c, third)
			}
		}()
		if third == "nobody" {
			ln.Close()
		}
		client := embeddedClient(t, "redis://"+ln.Addr().String())
		answers, err := outbox{client}.ask(make([]message, 5))
		got := ""
		for _, a := range answers {
			switch {
			case a.err == nil:
				got += "+"
			case a.sent:
				got += "?"
			default:
				got += "-"
			}
		}
		if got != want || err == nil {
			t.Errorf("third answer %q: %s, %v; want %s", third, got, err, want)
		}
		client.Close()
		ln.Close()
		<-done
	}
	f("-NOPERM no permission", "++-++")
	f("", "++???")
	f("nobody", "-----")
}

// A list of which nothing is published is answered as a whole, with the worst.
func TestNothing(t *testing.T) {
	sure, unsure := &refusal{why: redisRefused}, &refusal{why: redisAway, uncertain: true}
	f := func(want *refusal, fates ...*refusal) {
		t.Helper()
		if got := nothing(fates); got != want {
			t.Errorf("%v: got %v, want %v", fates, got, want)
		}
	}
	f(nil)
	f(nil, nil, sure)
	f(nil, sure, unsure, nil)
	f(sure, sure)
	f(unsure, unsure, sure)
	f(unsure, sure, unsure, sure)
}

// What Redis refuses is told of that item alone, without its details.
func TestServeRefusedByRedis(t *testing.T) {
	r := embedded.TestRedisProcess(t)
	admin := embeddedClient(t, r.URL())
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "narrow", "on", "nopass", "resetchannels", "&a*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	a, sub := serve(t, "redis://narrow:x@"+r.Addr(), nil), subscribe(t, r.URL(), "*")
	const no = `{"success":false,"error":"Redis refuses it with NOPERM: this was not published"}`
	a.want(503, no, "/publish/b", "x")
	a.want(200, `[{"success":true,"recipients":null},`+no+`,{"success":true,"recipients":null}]`,
		"/publish", `[{"channel":"a1","data":1},{"channel":"b","data":2},{"channel":"a2","data":3}]`)
	sub.gets("a1", "1")
	sub.gets("a2", "3")
	// It is no reason to keep back what comes after it.
	items := `{"channel":"b","data":0}` + strings.Repeat(`,{"channel":"a","data":"`+strings.Repeat("x", 4000)+`"}`, 400)
	answer := a.want(200, `[{"success":false`, "/publish", "["+items+"]")
	if n := strings.Count(answer.body, `"success":true`); n != 400 {
		t.Errorf("%d of 400 were published", n)
	}
	if a.s.ready() != nil || a.refused(redisRefused) != 3 || a.s.stats.uncertain.Load() != 0 {
		t.Errorf("%v, counted %d and %d", a.s.ready(), a.refused(redisRefused), a.s.stats.uncertain.Load())
	}
}

// gate is an audience that lets its askers wait.
type gate struct{ come, open chan struct{} }

func (g gate) recipients(context.Context, []target) []int {
	g.come <- struct{}{}
	<-g.open
	return []int{7}
}

// At the end what is in work is answered, and new requests are not taken.
func TestServeDrains(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	a := serveWith(t, embedded.TestRedis(t).URL(), nil, g)
	a.ready()
	addr := a.s.Addr().String()
	answer := make(chan reply, 1)
	go func() { answer <- a.post("/publish/a", "last words") }()
	<-g.come
	a.end()
	until(t, "it is draining", func() bool { err := a.s.ready(); return err != nil && err.Error() == "draining" })
	until(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-a.ran:
		t.Fatal("it ended with a request in work")
	default:
	}
	close(g.open)
	if r := <-answer; r.status != 200 || r.body != `{"success":true,"recipients":7}` {
		t.Errorf("%+v", r)
	}
	<-a.ran
	if strings.Contains(a.log.String(), "level=WARN") {
		t.Errorf("log: %s", a.log.String())
	}
}

// Health and metrics, as an operator sees them.
func TestServeAdmin(t *testing.T) {
	a := serve(t, embedded.TestRedis(t).URL(), nil)
	a.want(200, published, "/publish/a", "x")
	a.want(400, "", "/notify", "{}")
	if status, body := a.admin("/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("%d %s", status, body)
	}
	_, text := a.admin("/metrics")
	for _, line := range []string{
		`sluice_publisher_requests_total{endpoint="/publish/{channel}"} 1`, `sluice_publisher_published_total 1`,
		`sluice_publisher_refused_total{reason="bad-request"} 1`, `sluice_publisher_redis_connected 1`, `sluice_publisher_redis_seconds_count 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

func do(t testing.TB, req *http.Request) (int, string) {
	t.Helper()
	resp, err := noReuse.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return resp.StatusCode, body
}

// More connections than are allowed are refused and counted; those that are there
// go on.
func TestServeConnections(t *testing.T) {
	a := serve(t, embedded.TestRedis(t).URL(), func(c *ServeConfig) { c.Publisher.Connections = 2 })
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", a.s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	until(t, "both are counted", func() bool { return a.s.http.GetOpenConnectionsCount() == 2 })
	a.wantRaw(http.StatusServiceUnavailable, "limit", "")
	until(t, "the third is counted", func() bool { return a.s.http.GetRejectedConnectionsCount() == 1 })
	for _, c := range open {
		c.Close()
	}
	until(t, "there is room again", func() bool { return a.s.http.GetOpenConnectionsCount() == 0 })
	a.want(200, published, "/publish/a", "x")
}
