package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers and lists of them
	}
	return string(b)
}

// The JavaScript client in a browser, against real nodes.
func TestClient(t *testing.T) {
	p := newPages(t, 2, "SSENODE_HEARTBEAT=1s", "SSENODE_RETRY=200ms", "SSENODE_LINGER=100ms", "ROUTES=bill:* initial=1; live:* history=off")
	for _, c := range []struct {
		name string
		f    func(*testing.T, *pages)
	}{
		{"Events", clientEvents}, {"Initial", clientInitial}, {"Gap", clientGap}, {"Parser", clientParser}, {"Live", clientLive}, {"Tabs", clientTabs},
		{"Poll", clientPolls},     // a node notices only after a while that nobody waits for a poll
		{"Resume", clientResumes}, // the last, as it kills a node
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			q := *p
			s := *p.site
			s.t, q.site = t, &s
			c.f(t, &q)
		})
		if !ok || c.name == "Resume" {
			return
		}
		eventually(t, "its tabs are gone", func() bool { return p.connections() == 0 })
	}
}

// Names, patterns, kinds of data; channels come and go while it is connected.
func clientEvents(t *testing.T, p *pages) {
	b := p.tab(t)
	b.begin(p.server, `{}`, "chat:a b,c")
	b.run(`window.named = []; window.ends = [
		sluice.subscribe("bids", "bid", e => named.push(e.data.n)),
		sluice.subscribe("bids", null, e => named.push("unnamed " + e.data)),
		sluice.subscribePattern("game:*:>", e => named.push(e.channel)),
		sluice.subscribePattern("a%2A:*", e => named.push(e.channel)),
		sluice.subscribe("bids", () => { throw new Error("a listener's own fault"); })]`, nil)
	b.positioned()
	p.publish("chat:a b,c", "text")
	p.publish("chat:a b,c", `{"a":[1]}`)
	p.publish("chat:a b,c", "\xff\x00")
	p.publish("chat:a b,c", "")
	p.publish("bids", `{"event":"bid","data":{"n":1}}`)
	p.publish("bids", `{"event":"other","data":{"n":2}}`)
	p.publish("bids", "3")
	p.publish("game:r", "no segment more")
	p.publish("game:r:p", "")
	p.publish("game:r:p:x", "")
	p.publish("a*:x", "")
	b.until(`got.length === 4 && named.length === 5`)
	var got []struct {
		Channel string
		Event   *string
		Data    any
	}
	b.run(`got`, &got)
	if s := toJSON(got); s != `[{"Channel":"chat:a b,c","Event":null,"Data":"text"},{"Channel":"chat:a b,c","Event":null,"Data":{"a":[1]}},`+
		`{"Channel":"chat:a b,c","Event":"binary","Data":{"bytes":[255,0]}},{"Channel":"chat:a b,c","Event":null,"Data":""}]` {
		t.Errorf("got %s", s)
	}
	var named []any
	b.run(`named`, &named)
	if s := toJSON(named); s != `[1,"unnamed 3","game:r:p","game:r:p:x","a*:x"]` {
		t.Errorf("named %s", s)
	}
	// Another channel while events come: nothing is lost or comes twice for the others.
	b.run(`got.length = 0`, nil)
	b.run(`sluice.subscribe("n:1", note)`, nil)
	b.settle(p, "n:1")
	stop := p.numbers("n:1")
	b.until(`got.length > 20`)
	b.run(`window.end = sluice.subscribe("n:2", note); sluice.subscribe("n:3", note)`, nil)
	b.open()
	b.until(`got.length > 60`)
	b.run(`end()`, nil)
	p.publish("n:3", "0")
	b.until(`got.some(e => e.channel === "n:3")`)
	b.sequence("n:1", stop())
	eventually(t, "nobody watches n:2", func() bool {
		_, text := fetch(t, p.server+"/poll?channel=n:2")
		return text != "" && p.watched() == 6 // chat, bids, two patterns, n:1, n:3
	})
	b.run(`sluice.close()`, nil)
	eventually(t, "it is closed", func() bool { return p.connections() == 0 })
	b.until(`sluice.status.state === "closed"`)
}

// watched are the channels and patterns that have clients, over all nodes.
func (p *pages) watched() (n float64) {
	for _, node := range p.nodes {
		n += node.metric("sluice_ssenode_watched_channels")
	}
	return n
}

// Whoever listens gets the present state first, also when the connection has
// brought the channel for a while, and then what follows.
func clientInitial(t *testing.T, p *pages) {
	p.publish("bill:1", `"before"`)
	p.publish("bill:2", `"other"`)
	eventually(t, "history", func() bool { return len(initial(t, p, "bill:1"))+len(initial(t, p, "bill:2")) == 2 })
	a := p.tab(t)
	a.begin(p.server, `{}`, "bill:1")
	a.until(`got.length === 1 && got[0].data === "before"`)
	a.positioned()
	p.publish("bill:1", `"now"`)
	a.until(`got.length === 2 && got[1].data === "now"`)
	// In the same tab; of another channel; in another tab.
	a.run(`window.second = []; sluice.subscribe("bill:1", e => second.push(e.data)); sluice.subscribe("bill:2", e => second.push(e.data))`, nil)
	a.until(`toString(second.sort()) , second.length === 2 && second.includes("now") && second.includes("other")`)
	b := p.tab(t)
	b.begin(p.server, `{}`, "bill:1")
	b.until(`got.length === 1 && got[0].data === "now"`)
	p.publish("bill:1", `"then"`)
	a.until(`got.length === 3 && second.length === 3`)
	b.until(`got.length === 2 && got[1].data === "then"`)
	if n := p.connections(); n != 1 {
		t.Errorf("%v connections", n)
	}
}

func initial(t *testing.T, p *pages, channel string) (events []any) {
	t.Helper()
	var answer struct{ Events []any }
	_, body := fetch(t, p.server+"/poll?channel="+url.QueryEscape(channel))
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return answer.Events
}

// A gap is told to those whose channel it is.
func clientGap(t *testing.T, p *pages) {
	b := p.tab(t)
	b.run(`{ const real = fetch; window.asked = []; window.fetch = (url, init) => (asked.push(String(url)), real(url, init)); }`, nil)
	b.begin(p.server, `{lastEventId: "another-1"}`, "g:1")
	b.until(`gaps.length === 1`)
	var gap struct {
		Channels []string
		Reason   string
	}
	b.run(`gaps[0]`, &gap)
	if gap.Reason != "stream-recreated" || !slices.Equal(gap.Channels, []string{"g:1"}) {
		t.Errorf("got %+v", gap)
	}
	b.positioned()
	p.publish("g:1", "1")
	b.until(`got.length === 1 && gaps.length === 1`)
	// A page that hears nothing moves on all the same.
	b.run(`window.before = sluice.lastEventId`, nil)
	p.publish("g:another", "1")
	b.until(`sluice.lastEventId !== before && got.length === 1`)
	for _, hop := range p.hops {
		hop.Cut()
	}
	b.until(`asked.length > 1 && +asked.at(-1).split("-").at(-1) > +before.split("-").at(-1)`)
}

// Blocks come in any pieces and with any line ends. What came before is passed over,
// unless a gap says that it comes again.
func clientParser(t *testing.T, p *pages) {
	stream := "\ufeffretry: 20\r\n\r\n:comment\n\nevent: connected\rdata: {\"clientId\":\"x\",\"node\":\"odd\"}\r\r" +
		"data: {\"channel\":\"o\",\"event\":null,\ndata:\"data\":\"ä€😀\"}\nid: e-1\n\nid: e-2\n\n" +
		"event: unknown\r\ndata: 1\r\n\r\ndata:{\"channel\":\"o\",\"event\":\"n\",\"data\":2}\r\nid:e-3\r\n\r\n" +
		"id: e-2\ndata: {\"channel\":\"o\",\"event\":null,\"data\":\"came before\"}\n\n" +
		"id: e-1\nevent: gap\ndata: {\"channels\":[\"o\"],\"patterns\":[],\"reason\":\"upstream\"}\n\n" +
		"id: e-2\ndata: {\"channel\":\"o\",\"event\":null,\"data\":\"again\"}\n\n" +
		"data: {\"channel\":\"o\",\"event\":null,\"data\":\"incomplete\"}\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if r.URL.Query().Get("lastEventId") != "" {
			w.WriteHeader(http.StatusNoContent) // it is not to come again
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range len(stream) {
			if _, err := w.Write([]byte{stream[i]}); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	b := p.tab(t)
	b.run(fmt.Sprintf(`(async () => { const { Sluice } = await import("%s/sluice.js"); begin(Sluice, {server: %q}); sluice.subscribe("o", note); })()`, p.server, server.URL), nil)
	b.until(`sluice.status.state === "closed"`)
	var got []struct {
		Event *string
		Data  any
		ID    string
	}
	b.run(`got`, &got)
	if s := toJSON(got); s != `[{"Event":null,"Data":"ä€😀","ID":"e-1"},{"Event":"n","Data":2,"ID":"e-3"},{"Event":null,"Data":"again","ID":"e-2"}]` {
		t.Errorf("got %s", s)
	}
	var last string
	if b.run(`sluice.lastEventId`, &last); last != "e-2" {
		t.Errorf("position %q", last)
	}
}

// Channels come and go on a connection that is there, which goes on; what comes of them
// meanwhile is not lost.
func clientLive(t *testing.T, p *pages) {
	sum := func(name string) (n float64) {
		for _, node := range p.nodes {
			n += node.metric("sluice_ssenode_" + name)
		}
		return n
	}
	subscribed, unsubscribed := sum("subscribed_total"), sum("unsubscribed_total")
	b := p.tab(t)
	b.begin(p.server, `{share: false}`, "lives:1")
	b.positioned()
	connects := sum("connects_total")
	stop := p.numbers("lives:2")
	b.run(`window.end = sluice.subscribe("lives:2", note)`, nil)
	b.open()
	b.until(`got.length > 50`)
	// Of another connection it is one of the address, from the position on.
	b.until(settled)
	for _, hop := range p.hops {
		hop.Cut()
	}
	connects++
	eventually(t, "it is back", func() bool { return sum("connects_total") == connects })
	b.run(`window.before = got.length`, nil)
	b.until(`got.length > before + 50`)
	last := stop() - 1
	b.until(fmt.Sprintf(`got.at(-1).data === %d`, last))
	// Before the first id an event may come twice to who begins to listen
	// (ssenode/web/README.md).
	var wrong string
	b.run(`window.seen = -1;
		window.begins = got.findIndex(e => e.id);
		window.list = got.filter((e, i) => i >= begins || e.data > seen ? (seen = e.data, true) : false);
		list.map((e, i) => e.channel === "lives:2" && e.data === list[0].data + i ? "" : JSON.stringify([i, before, list[i - 1], e])).find(s => s) ?? ""`, &wrong)
	if wrong != "" {
		t.Errorf("some are missing, or came twice; the first with what came before it, and how many before the cut: %s", wrong)
	}
	b.run(`end()`, nil)
	eventually(t, "it is taken away", func() bool { return sum("unsubscribed_total") == unsubscribed+1 })
	if n := sum("subscribed_total") - subscribed; n != 1 {
		t.Errorf("%v channels were added", n)
	}
	// A pattern that it has brings the channel, and the server tells nothing of it.
	b.run(`sluice.subscribePattern("lives:*", note)`, nil)
	b.positioned()
	connects++ // patterns stand in the address
	b.run(`got.length = 0, sluice.subscribe("lives:3", note)`, nil)
	b.open()
	p.publish("lives:3", "3")
	b.until(`got.length === 2`)
	if n := sum("connects_total"); n != connects {
		t.Errorf("%v connections, want %v", n, connects)
	}
	// More at once than are worth so many requests are one new connection.
	subscribed = sum("subscribed_total")
	b.run(`got.length = 0; for (let i = 0; i < 9; i++) sluice.subscribe("more:" + i, note)`, nil)
	b.positioned()
	for i := range 9 {
		p.publish(fmt.Sprint("more:", i), fmt.Sprint(i))
	}
	b.until(`got.length === 9`)
	if n, live := sum("connects_total"), sum("subscribed_total"); n != connects+1 || live != subscribed {
		t.Errorf("%v connections, want %v; %v channels were added", n, connects+1, live-subscribed)
	}
	b.run(`sluice.close()`, nil)
}

// Where something on the way holds streams back, it polls; nothing is lost.
func clientPolls(t *testing.T, p *pages) {
	front, err := url.Parse(p.server)
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(front)
	through.Transport = &http.Transport{DisableKeepAlives: true}
	var passes atomic.Bool
	buffering := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" && !passes.Load() {
			<-r.Context().Done() // it waits for the end of the answer
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(buffering.Close)
	b := p.tab(t)
	// Ten seconds for the first bytes are much for a test.
	b.run(`window.realTimeout = setTimeout, window.setTimeout = (f, ms) => realTimeout(f, ms === 10e3 ? 300 : ms); 0`, nil)
	b.begin(buffering.URL, `{}`, "poll:1", "bill:3")
	b.until(`sluice.status.transport === "poll" && sluice.status.state === "open"`)
	stop := p.numbers("poll:1")
	b.until(`got.length > 50`)
	p.publish("bill:3", `{"event":"paid","data":{"x":1}}`)
	p.publish("bill:3", "\xfe")
	b.until(`got.some(e => e.event === "paid" && e.data.x === 1) && got.some(e => e.event === "binary" && e.data.bytes[0] === 254)`)
	b.run(`sluice.subscribe("poll:2", note)`, nil)
	p.publish("poll:2", "0")
	b.until(`got.some(e => e.channel === "poll:2")`)
	// After a minute it tries the stream again.
	passes.Store(true)
	b.run(`{ const now = Date.now; Date.now = () => now() + 61e3; }`, nil)
	b.until(`sluice.status.transport === "stream" && sluice.status.state === "open"`)
	b.run(`window.before = got.length`, nil)
	b.until(`got.length > before + 50`)
	b.sequence("poll:1", stop())
	b.run(`sluice.close()`, nil)
}

// Two tabs have one connection. When the one that holds it is closed the other
// goes on with it: nothing is lost, nothing comes twice.
func clientTabs(t *testing.T, p *pages) {
	a, b := p.tab(t), p.tab(t)
	a.begin(p.server, `{}`, "t:a", "t:both")
	a.positioned()
	b.begin(p.server, `{}`, "t:b", "t:both")
	b.positioned()
	if n := p.connections(); n != 1 {
		t.Errorf("%v connections", n)
	}
	a.settle(p, "t:a")
	b.settle(p, "t:b")
	a.run(`got.length = 0`, nil)
	stop := p.numbers("t:a", "t:b", "t:both")
	a.until(`got.length > 50`)
	b.until(`got.length > 50`)
	c := p.tab(t)
	c.begin(p.server, `{}`, "t:c")
	c.positioned()
	if n := p.connections(); n != 1 {
		t.Errorf("%v connections", n)
	}
	// Another person's tab has one of its own.
	other := p.tab(t)
	other.begin(p.server, `{share: "other"}`, "t:b")
	other.positioned()
	if n := p.connections(); n != 2 {
		t.Errorf("%v connections of two people", n)
	}
	other.close()
	b.until(settled)
	var wg sync.WaitGroup
	wg.Go(a.close)
	b.run(`{ const t = performance.now(); while (performance.now() < t + 500); }`, nil) // it has a lot to hear at once then
	wg.Wait()
	b.until(`got.length > 600`)
	n := stop()
	b.sequence("t:b", n)
	b.sequence("t:both", n)
	eventually(t, "what only the closed tab wanted is let go of", func() bool { return p.connections() == 1 && p.watched() == 3 })
	stop = p.numbers("t:c")
	c.until(settled)
	c.run(`window.sofar = got.length`, nil)
	b.run(`sluice.close()`, nil)
	c.until(`got.length > sofar + 100`)
	c.sequence("t:c", stop())
	var gaps, others int
	b.run(`gaps.length`, &gaps)
	if c.run(`gaps.length + got.filter(e => e.channel !== "t:c").length`, &others); gaps+others != 0 {
		t.Errorf("%d gaps, %d other things", gaps, others)
	}
}

// Over dropped connections, hanging ones and a killed node everything comes, in
// order, each once.
func clientResumes(t *testing.T, p *pages) {
	b := p.tab(t)
	b.begin(p.server, `{silence: 3}`, "r:1", "r:2")
	b.positioned()
	stop := p.numbers("r:1", "r:2")
	b.until(`got.length > 100`)
	for _, hop := range p.hops {
		hop.Cut()
	}
	b.until(`got.length > 300`)
	b.until(settled)
	for _, hop := range p.hops {
		hop.Hang() // neither end notices
	}
	b.until(`states.some(s => s.error === "the server fell silent")`)
	b.until(`got.length > 1500`)
	b.open()
	b.until(settled)
	var node string
	b.run(`sluice.status.node`, &node)
	victim := p.nodes[slices.Index([]string{"n1", "n2"}, node)]
	_ = victim.cmd.Process.Kill()
	<-victim.done
	b.until(fmt.Sprintf(`sluice.status.state === "open" && sluice.status.node !== %q`, node))
	n := stop()
	b.sequence("r:1", n)
	b.sequence("r:2", n)
	var gaps int
	if b.run(`gaps.length`, &gaps); gaps != 0 {
		t.Errorf("%d gaps", gaps)
	}
}
