package publisher

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/shared/embedded"
)

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
