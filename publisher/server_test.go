package publisher

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// api is a running server and a client of it.
type api struct {
	t   testing.TB
	s   *Server
	log *syncBuffer
	end func() // the context of Run
	ran chan struct{}
}

// serveWith starts a server, without waiting for Redis.
func serveWith(t testing.TB, redisURL string, change func(*ServeConfig), audience Audience) *api {
	t.Helper()
	cfg := worker.Default[ServeConfig]()
	cfg.Redis.URL, cfg.Admin.Addr, cfg.Publisher.Addr = redisURL, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Publisher.DrainDelay = 0
	if change != nil {
		change(&cfg)
	}
	a := &api{t: t, log: &syncBuffer{}, ran: make(chan struct{})}
	var err error
	if a.s, err = New(cfg, slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))); err != nil {
		t.Fatal(err)
	}
	a.s.Audience = audience
	ctx, cancel := context.WithCancel(context.Background())
	a.end = cancel
	go func() {
		defer close(a.ran)
		if err := a.s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-a.ran })
	return a
}

// serve starts a server on a Redis and waits until it answers.
func serve(t testing.TB, redisURL string, change func(*ServeConfig)) *api {
	t.Helper()
	a := serveWith(t, redisURL, change, nil)
	a.ready()
	return a
}

func (a *api) ready() {
	a.t.Helper()
	embedded.Eventually(a.t, "the server is ready", patience, func() bool { return a.s.ready() == nil })
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// noReuse: a connection for each request, so that none is left behind.
var noReuse = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// send sends any request; header fields are "Name: value".
func (a *api) send(method, path, body string, header ...string) reply {
	a.t.Helper()
	req, err := http.NewRequest(method, "http://"+a.s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := noReuse.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, strings.TrimSuffix(string(b), "\n")}
}

func (a *api) post(path, body string, header ...string) reply {
	a.t.Helper()
	return a.send(http.MethodPost, path, body, header...)
}

// want posts and compares the answer.
func (a *api) want(status int, answer, path, body string, header ...string) reply {
	a.t.Helper()
	r := a.post(path, body, header...)
	if r.status != status || !strings.Contains(r.body, answer) {
		a.t.Errorf("POST %.100s %.200s: got %d %.300s, want %d %s", path, body, r.status, r.body, status, answer)
	}
	if status != http.StatusNoContent && r.header.Get("Content-Type") != "application/json" {
		a.t.Errorf("POST %.100s: Content-Type %q", path, r.header.Get("Content-Type"))
	}
	return r
}

func (a *api) refused(w why) uint64 { return a.s.stats.refused[w].Load() }

const published = `{"success":true,"recipients":null}`

// gets compares the next message with what was published.
func (s *subscriber) gets(channel, payload string) {
	s.t.Helper()
	if m := s.next(); m.Channel != channel || m.Payload != payload {
		s.t.Fatalf("got %.200q on %.100q, want %.200q on %.100q", m.Payload, m.Channel, payload, channel)
	}
}

// Any channel, any payload: Redis gets the bytes that were posted.
func TestServePayloads(t *testing.T) {
	url1 := embedded.TestRedis(t).URL()
	a, sub := serve(t, url1, nil), subscribe(t, url1, "*")
	names := []string{"a", "race-events:demo", "a/b", "/", "//a", ".", "..", "a b", "a+b", "%", "%41", "a%2Fb", "ü", "\x00", "\xff\xfe", "*", ">", "$SYS.x", ":", "?a=b", "#x", "publish/"}
	for _, name := range names {
		a.want(200, published, "/publish/"+url.PathEscape(name), "for "+name)
		sub.gets(name, "for "+name)
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, payload := range []string{"", " ", "a\r\nb\n", string(every), `{"event":"x","data":1}`, strings.Repeat("x", 100_000)} {
		for _, kind := range []string{"", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain; charset=latin1"} {
			a.want(200, published, "/publish/p", payload, "Content-Type: "+kind)
			sub.gets("p", payload)
		}
	}
	// What a path may also hold as it is.
	a.want(200, published, "/publish/x//y", "raw")
	sub.gets("x//y", "raw")
	a.want(200, published, "/publish/q?recipients=0&x=1", "query")
	sub.gets("q", "query")
	if n := a.s.stats.published.Load(); n != uint64(len(names)+6*5+2) {
		t.Errorf("counted %d", n)
	}
}

// The empty name is a channel like any other; only a pattern never matches it.
func TestServeEmptyName(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	a, client := serve(t, url, nil), embeddedClient(t, url)
	ps := client.Subscribe(t.Context(), "")
	defer ps.Close()
	if _, err := ps.ReceiveTimeout(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	a.want(200, published, "/publish/", "nobody's")
	a.want(200, `[{"success":true,"recipients":null}]`, "/publish", `[{"channel":"","data":"twice"}]`)
	for _, want := range []string{"nobody's", "twice"} {
		m, err := ps.ReceiveMessage(t.Context())
		if err != nil || m.Channel != "" || m.Payload != want {
			t.Fatalf("got %+v, %v; want %q", m, err, want)
		}
	}
}

// A list goes out in its order; each item is answered in its place.
func TestServeList(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	a, sub := serve(t, url, nil), subscribe(t, url, "*")
	r := a.post("/publish", `[
		{"channel":"a","data":"text \"quoted\" \u00fc"},
		{"channel":"a","data":{"n" : 1.0}},
		{"channel":"b","event":"note","data":{"n" : 1.0}},
		{"channel":"c"},
		{"channel":"c","event":null,"data":[1,2]},
		{"channel":"d","data":"x","criteria":{"role":["admin","ops"],"level":3}},
		{"channel":"`+strings.Repeat("x", 2000)+`","data":1},
		7,
		{"channel":"e","event":"say","data":"<b>","criteria":{}}]`)
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || r.status != 200 || len(list) != 9 {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	for i, item := range list {
		bad := i == 3 || i == 6 || i == 7
		if item["success"] != !bad || (item["error"] != nil) != bad {
			t.Errorf("item %d: %v", i, item)
		}
	}
	sub.gets("a", `text "quoted" ü`)
	sub.gets("a", `{"n" : 1.0}`)
	sub.gets("b", `{"event":"note","data":{"n" : 1.0}}`)
	sub.gets("c", `[1,2]`)
	sub.gets("d", `{"event":"","data":"x","criteria":{"role":["admin","ops"],"level":3}}`)
	sub.gets("e", `{"event":"say","data":"<b>","criteria":{}}`)
	a.want(200, `[]`, "/publish", `[]`)
	if a.refused(badRequest) != 2 || a.refused(nameTooLong) != 1 || a.s.stats.published.Load() != 6 {
		t.Errorf("counted %d, %d, %d", a.refused(badRequest), a.refused(nameTooLong), a.s.stats.published.Load())
	}
	// More than one pipeline holds, still in order.
	var b strings.Builder
	for i := range 500 {
		b.WriteString(`,{"channel":"many","data":"` + strings.Repeat("1", 3000+i) + `"}`)
	}
	before := a.conversations()
	a.want(200, `{"success":true`, "/publish", "["+b.String()[1:]+"]")
	if n := a.conversations() - before; n != 2 {
		t.Errorf("%d pipelines, want 2", n)
	}
	for i := range 500 {
		sub.gets("many", strings.Repeat("1", 3000+i))
	}
}

// conversations is how many pipelines Redis has answered.
func (a *api) conversations() uint64 {
	a.t.Helper()
	families, err := a.s.admin.Registry.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_publisher_redis_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	a.t.Fatal("no such metric")
	return 0
}

// Where notices and broadcasts go, and as what.
func TestServeNotices(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	a, sub := serve(t, url, nil), subscribe(t, url, "*")
	f := func(path, body, channel, payload string) {
		t.Helper()
		a.want(200, published, path, body)
		sub.gets(channel, payload)
	}
	f("/notify", `{"channel":"user:1","event":"notification","data":{"a":1}}`, "user:1", `{"event":"notification","data":{"a":1}}`)
	f("/notify", `{"clientId":"c1.tab~2","event":"e","data":null}`, "sse:channel:c1.tab~2", `{"event":"e","data":null}`)
	f("/notify", `{"group":"staff","event":"group-message","data":"hi","criteria":{"role":"admin"}}`, "sse:group:staff", `{"event":"group-message","data":"hi","criteria":{"role":"admin"}}`)
	f("/broadcast", `{"event":"broadcast","data":"all"}`, "sse:broadcast", `{"event":"broadcast","data":"all"}`)
	// A value is text, whatever it looks like.
	f("/notify", `{"group":"*","event":"e","data":1}`, "sse:group:*", `{"event":"e","data":1}`)
	f("/notify", `{"group":">","event":"e","data":1}`, "sse:group:>", `{"event":"e","data":1}`)
	f("/notify", `{"group":"%2A {group} ü.$x","event":"e","data":1}`, "sse:group:%2A {group} ü.$x", `{"event":"e","data":1}`)

	b := serve(t, url, func(c *ServeConfig) {
		c.BroadcastChannel, c.ClientChannel, c.GroupChannel = "all%2A", "{clientId}:in", "g:{group}:{group}"
	})
	f = func(path, body, channel, payload string) {
		t.Helper()
		b.want(200, published, path, body)
		sub.gets(channel, payload)
	}
	f("/notify", `{"clientId":"c","event":"e","data":1}`, "c:in", `{"event":"e","data":1}`)
	f("/notify", `{"group":"x","event":"e","data":1}`, "g:x:x", `{"event":"e","data":1}`)
	f("/broadcast", `{"event":"e","data":1}`, "all*", `{"event":"e","data":1}`)
}

// What is refused, with which words and reason; nothing of it is published.
func TestServeRefusals(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	a := serve(t, url, func(c *ServeConfig) {
		c.Publisher.MaxPayload, c.Publisher.MaxBody, c.Publisher.MaxItems = 1000, 3000, 3
	})
	sub := subscribe(t, url, "*")
	f := func(w why, text, path, body string, header ...string) {
		t.Helper()
		before := a.refused(w)
		r := a.want(w.status(), text, path, body, header...)
		if !strings.HasPrefix(r.body, `{"success":false,"error":"`) || a.refused(w) != before+1 {
			t.Errorf("POST %.100s %.100s: %s, counted as %v: %d", path, body, r.body, w, a.refused(w)-before)
		}
	}
	a.wantRaw(400, `invalid URL escape`, "POST /publish/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	f(badRequest, `recipients=\"2\": want 0`, "/publish/a?recipients=2", "")
	f(nameTooLong, "too long", "/publish/"+strings.Repeat("x", 1025), "")
	f(nameTooLong, "too long", "/publish/"+strings.Repeat("%FF", 400), "")
	f(reservedName, "sluice:mark", "/publish/sluice:mark", "forged")
	f(reservedName, "__keyspace@0__:x", "/publish/__keyspace@0__:x", "")
	f(reservedName, "__sentinel__:hello", "/publish/__sentinel__:hello", "")
	f(payloadTooLarge, "1001 bytes: want at most 1000", "/publish/a", strings.Repeat("x", 1001))
	f(payloadTooLarge, "want at most 1000", "/notify", `{"channel":"a","event":"e","data":"`+strings.Repeat("x", 980)+`"}`)
	f(bodyTooLarge, "larger than 3000 bytes", "/publish/a", strings.Repeat("x", 3001))
	f(bodyTooLarge, "larger than 3000 bytes", "/notify", strings.Repeat("x", 100_000))
	f(tooManyItems, "more than 3 messages", "/publish", `[{},{},{},{}]`)

	f(badRequest, "want JSON", "/publish", ``)
	f(badRequest, "an array", "/publish", `{"channel":"a","data":1}`)
	f(badRequest, "want JSON", "/publish", `[{"channel":"a","data":1}`)
	f(badRequest, "nothing after it", "/publish", `[] []`)
	f(badRequest, "not UTF-8", "/publish", "[{\"channel\":\"a\",\"data\":\"\xff\"}]")
	f(badRequest, "at byte 15", "/notify", `{"event":"e",`+"\n"+`}`)
	f(badRequest, "an object", "/notify", `[]`)
	f(badRequest, "got null", "/notify", `null`)
	f(badRequest, "not UTF-8", "/notify", "{\"event\":\"\xff\"}")
	f(badRequest, "one of channel, clientId and group, got 0", "/notify", `{"event":"e","data":1}`)
	f(badRequest, "got 2", "/notify", `{"channel":"a","group":"b","event":"e","data":1}`)
	f(badRequest, `\"event\" is missing`, "/notify", `{"channel":"a","data":1}`)
	f(badRequest, `\"event\": want a string, got null`, "/notify", `{"channel":"a","event":null,"data":1}`)
	f(badRequest, `\"data\" is missing`, "/notify", `{"channel":"a","event":"e"}`)
	f(badRequest, `\"channel\": want a string, got 5`, "/notify", `{"channel":5,"event":"e","data":1}`)
	f(badRequest, `no line break`, "/notify", `{"channel":"a","event":"e\nid: 1","data":1}`)
	f(badRequest, `unknown field \"Event\"`, "/notify", `{"channel":"a","Event":"e","data":1}`)
	f(badRequest, `unknown field \"criterai\"`, "/notify", `{"channel":"a","event":"e","data":1,"criterai":{}}`)
	f(badRequest, `unknown field \"criteria\": want event, data`, "/broadcast", `{"event":"e","data":1,"criteria":{}}`)
	for _, criteria := range []string{`null`, `"admin"`, `[]`, `{"a":null}`, `{"a":{}}`, `{"a":[["x"]]}`, `{"a":[null]}`} {
		f(badRequest, `\"criteria\": `, "/notify", `{"channel":"a","event":"e","data":1,"criteria":`+criteria+`}`)
	}
	for _, id := range []string{"", "a:b", "*", "a b", "ü", "a/b", strings.Repeat("x", 65), "a\n"} {
		quoted, _ := json.Marshal(id)
		f(badRequest, "clientId ", "/notify", `{"clientId":`+string(quoted)+`,"event":"e","data":1}`)
	}
	for _, group := range []string{"", "a:b", ":", "a\u0000", "a\n"} {
		quoted, _ := json.Marshal(group)
		f(badRequest, "group ", "/notify", `{"group":`+string(quoted)+`,"event":"e","data":1}`)
	}
	f(nameTooLong, "too long", "/notify", `{"group":"`+strings.Repeat("x", 1024-len("sse:group:")+1)+`","event":"e","data":1}`)
	f(notFound, "nothing is at", "/publishx", "")
	f(notFound, "nothing is at", "/notify/", "")
	f(badMethod, "want GET, HEAD, OPTIONS", "/openapi.json", "")
	if r := a.send(http.MethodGet, "/publish/a", ""); r.status != 405 || r.header.Get("Allow") != "POST, OPTIONS" || !strings.Contains(r.body, `"error":"method \"GET\"`) {
		t.Errorf("%+v", r)
	}
	f(headTooLarge, "16 KiB", "/publish/a?"+strings.Repeat("x", headLimit), "")

	a.want(200, published, "/publish/end", "")
	sub.gets("end", "")
}

// Who sends far too much gets the answer all the same, and not a reset connection.
func TestServeFarTooMuch(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	open := serve(t, url, nil)
	keyed := serve(t, url, func(c *ServeConfig) { _ = c.Publisher.APIKeys.Decode("a-key-that-is-long-enough") })
	body := strings.Repeat("x", 20<<20)
	for range 5 {
		open.want(413, "larger than 2097152 bytes", "/publish/a", body)
		keyed.want(401, "missing", "/publish/a", body)
	}
}

// Many at once: everything is published, each sender's messages in their order.
func TestServeAtOnce(t *testing.T) {
	const senders, messages = 40, 50
	url := embedded.TestRedis(t).URL()
	a, sub := serve(t, url, nil), subscribe(t, url, "*")
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := range messages {
				resp, err := client.Post(fmt.Sprintf("http://%s/publish/c%d", a.s.Addr(), i), "", strings.NewReader(strconv.Itoa(n)))
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, b)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	for range senders * messages {
		m := sub.next()
		if m.Payload != strconv.Itoa(next[m.Channel]) {
			t.Fatalf("%s: got %s, want %d", m.Channel, m.Payload, next[m.Channel])
		}
		next[m.Channel]++
	}
}

// A request that does not come is answered and its connection closed.
func TestServeSlowRequest(t *testing.T) {
	a := serve(t, embedded.TestRedis(t).URL(), func(c *ServeConfig) { c.Publisher.ReadTimeout = 50 * time.Millisecond })
	for _, text := range []string{"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", "POST /publish/a HTTP/1.1\r\nHo"} {
		a.wantRaw(http.StatusRequestTimeout, "within 50ms", text)
	}
	a.wantRaw(http.StatusBadRequest, "HTTP/1.1", "no request at all\r\n\r\n")
}

// wantRaw sends bytes and compares the answer, after which the connection ends.
func (a *api) wantRaw(status int, answer, text string) {
	a.t.Helper()
	if r := a.raw(text); r.status != status || !strings.Contains(r.body, answer) {
		a.t.Errorf("%q: got %+v, want %d %s", text, r, status, answer)
	}
}

// raw sends bytes and reads the answer, after which the connection ends.
func (a *api) raw(text string) reply {
	a.t.Helper()
	c, err := net.Dial("tcp", a.s.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		a.t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
	if err != nil {
		a.t.Fatalf("%q: %q: %v", text, all, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, strings.TrimSuffix(string(b), "\n")}
}

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

// audience counts from a list, and keeps what it was asked.
type audience struct {
	counts map[string]int
	mu     sync.Mutex // guards asked
	asked  [][]Target
	limits []time.Duration
}

func (a *audience) Recipients(ctx context.Context, targets []Target) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, targets)
	if deadline, ok := ctx.Deadline(); ok {
		a.limits = append(a.limits, time.Until(deadline))
	}
	var list []int
	for _, target := range targets {
		list = append(list, a.counts[target.Channel])
	}
	return list
}

// The recipients are what the audience says, null where it does not know or is not
// asked.
func TestServeRecipients(t *testing.T) {
	who := &audience{counts: map[string]int{"a": 3, "none": 0, "lost": -1, "sse:broadcast": 1000}}
	a := serveWith(t, embedded.TestRedis(t).URL(), nil, who)
	a.ready()
	f := func(recipients, path, body string) {
		t.Helper()
		if r := a.post(path, body); r.status != 200 || r.body != recipients {
			t.Errorf("%s %s: %d %s, want %s", path, body, r.status, r.body, recipients)
		}
	}
	f(`{"success":true,"recipients":3}`, "/publish/a", "x")
	f(`{"success":true,"recipients":3}`, "/publish/a?recipients=1", "x")
	f(`{"success":true,"recipients":0}`, "/publish/none", "x")
	f(`{"success":true,"recipients":null}`, "/publish/lost", "x")
	f(`{"success":true,"recipients":1000}`, "/broadcast", `{"event":"e","data":1}`)
	f(`{"success":true,"recipients":3}`, "/notify", `{"channel":"a","event":"e","data":1,"criteria":{"role":"admin"}}`)
	f(`[{"success":true,"recipients":3},{"success":false,"error":"\"data\" is missing"},{"success":true,"recipients":null},{"success":true,"recipients":0}]`,
		"/publish", `[{"channel":"a","data":1},{"channel":"b"},{"channel":"lost","data":1},{"channel":"none","data":1}]`)
	before := len(who.asked)
	f(`{"success":true,"recipients":null}`, "/publish/a?recipients=0", "x")
	f(`[{"success":true,"recipients":null}]`, "/publish?recipients=0", `[{"channel":"a","data":1}]`)
	f(`{"success":true,"recipients":null}`, "/broadcast?recipients=0", `{"event":"e","data":1}`)
	if len(who.asked) != before {
		t.Error("asked although nobody wanted to know")
	}
	if got := who.asked[5]; len(got) != 1 || string(got[0].Criteria) != `{"role":"admin"}` {
		t.Errorf("asked for %+v", got)
	}
	if got := who.asked[6]; len(got) != 3 || got[1].Channel != "lost" || got[0].Criteria != nil {
		t.Errorf("asked for %+v", got)
	}
	for _, limit := range who.limits {
		if limit > countLimit {
			t.Errorf("asked for %s", limit)
		}
	}
	if n := a.s.stats.unknown.Load(); n != 2 {
		t.Errorf("counted %d", n)
	}
}
