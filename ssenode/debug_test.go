package ssenode

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/shared/wire"
	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
)

// An operator asks any node, and sees the connections of all: by client, by whom their
// tokens are of, by channel. Tokens and payloads are not told, what claims say only if
// it was asked for.
func TestDebugClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u, a, b := pairOpen(t, func(c *Config) {
			c.SSENode.Engine = engine
			c.SSENode.JWT.Secret = auth.NewSecret(testSecret)
			c.Routes = routes(t, "x:low priority=low; x:slow throttle=1h; x:live history=off")
		})
		token := hs(t, "channels", []string{"x:>"}, "role", "boss")
		s := open(t, b, "/events?channel=x:low&channel=x:slow&channel=x:live&pattern=x:*&wrap=1"+query(token))
		other := hs(t, "sub", "eve", "channels", []string{"x:>"})
		open(t, a, "/events?channel=x:low"+query(other))
		settle(t, b)
		u.publish("x:slow", `{"secret":1}`)
		next(t, s)
		u.publish("x:low", `{"secret":2}`)
		id := ""
		for id == "" {
			id = next(t, s).ID
		}
		var got clientsDebug
		body := debugged(t, a, "/debug/clients?sub=anna", 200, &got)
		if got.Count != 1 || !got.Complete || got.Truncated || len(got.Clients) != 1 {
			t.Fatalf("%s", body)
		}
		c := got.Clients[0]
		at, err := time.Parse(time.RFC3339, c.ConnectedAt)
		if err != nil || time.Since(at).Abs() > wait || c.Node != "b" || c.Kind != "sse" || !c.Wrap || c.Subject == nil || *c.Subject != "anna" ||
			c.LastID == nil || seqOf(t, *c.LastID) < seqOf(t, id) || c.Behind != nil || c.TokenUntil == nil {
			t.Errorf("%s", body)
		}
		var names []string
		for _, ch := range append(c.Channels, c.Patterns...) {
			names = append(names, fmt.Sprintf("%s %v %q %q", ch.Name, ch.History, ch.Priority, ch.Throttle))
		}
		wanted := `[x:low true "low" "" x:slow true "" "1h0m0s" x:live false "" "" x:* false "" "some"]`
		if fmt.Sprint(names) != wanted {
			t.Errorf("%s, want %s", names, wanted)
		}
		if list, is := c.Attributes["role"]; !is || len(list) > 0 {
			t.Errorf("attributes %v, want their names", c.Attributes)
		}
		for _, secret := range append(strings.Split(token, ".")[1:], "secret", "boss") {
			if strings.Contains(body, secret) {
				t.Errorf("%s is told: %s", secret, body)
			}
		}
		if debugged(t, b, "/debug/clients?client="+c.ClientID+"&attributes=1", 200, &got); got.Count != 1 || fmt.Sprint(got.Clients[0].Attributes["role"]) != "[boss]" {
			t.Errorf("by client: %+v", got)
		}
		if debugged(t, b, "/debug/clients?channel=x:low", 200, &got); got.Count != 2 || len(got.Clients) != 2 {
			t.Errorf("by channel: %+v", got)
		}
		if debugged(t, b, "/debug/clients?channel=x:low&limit=1", 200, &got); got.Count != 2 || len(got.Clients) != 1 || !got.Truncated {
			t.Errorf("one of two: %+v", got)
		}
		if body := debugged(t, b, "/debug/clients?sub=nobody", 200, nil); body != `{"count":0,"complete":true,"truncated":false,"clients":[]}`+"\n" {
			t.Errorf("nobody: %s", body)
		}
	})
}

// All are counted, as many listed as were asked for, or fit into a message of NATS.
func TestDebugIsCut(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Loops, c.SSENode.MaxHead = 1, 64<<10 })
	path := "/events?channel=x"
	for i := range 200 {
		path += fmt.Sprintf("&channel=%s%d", strings.Repeat("a", 100), i)
	}
	const clients = 20
	for range clients {
		open(t, n, path)
	}
	until(t, "all are there", func() bool { return n.stats.open() == clients })
	var got clientsDebug
	debugged(t, n, "/debug/clients?channel=x&limit=2", 200, &got)
	if got.Count != clients || len(got.Clients) != 2 || !got.Truncated {
		t.Errorf("%d of %d, %v", len(got.Clients), got.Count, got.Truncated)
	}
	body := debugged(t, n, "/debug/clients?channel=x", 200, &got)
	if got.Count != clients || len(got.Clients) == 0 || len(got.Clients) == clients || !got.Truncated || len(body) > wire.MaxControl {
		t.Errorf("%d of %d, %v, %d bytes", len(got.Clients), got.Count, got.Truncated, len(body))
	}
}

// Who was refused, and why, is remembered by the clientId that it came with; of its token
// nothing is.
func TestDebugRefusals(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.JWT.Secret = auth.NewSecret(testSecret)
		c.SSENode.MaxPerSubject = 1
	})
	ask(t, n, "/events?channel=x&clientId=anna"+query(hs(t, "exp", in(-time.Hour))))
	ask(t, n, "/poll?channel=other&clientId=anna.tab"+query(hs(t)))
	ask(t, n, "/events?channel=x&clientId=eve"+query(hs(t)))
	ask(t, n, "/events?channel=%zz&token=s3cr3t-s3cr3t")
	open(t, n, "/events?channel=x&clientId=anna"+query(hs(t)))
	ask(t, n, "/events?channel=x&clientId=anna"+query(hs(t)))
	var got closesDebug
	body := debugged(t, n, "/debug/closes", 200, &got)
	list := func() (list []string) {
		for _, r := range got.Refusals {
			list = append(list, strings.TrimSpace(r.ClientID+" "+r.What+" "+r.Detail))
		}
		return list
	}
	all := []string{"anna limit subject", "bad-request", "eve forbidden clientId", "anna.tab forbidden channel other", "anna unauthorized expired"}
	if !slices.Equal(list(), all) || got.Nodes[0].RefusalsSince == "" || strings.Contains(body, "s3cr3t") {
		t.Errorf("%q: %s", list(), body)
	}
	if debugged(t, n, "/debug/closes?client=anna", 200, &got); !slices.Equal(list(), []string{all[0], all[4]}) {
		t.Errorf("of a client: %q", list())
	}
	if debugged(t, n, "/debug/closes?sub=anna", 200, &got); !slices.Equal(list(), []string{all[0], all[3], all[4]}) {
		t.Errorf("of a subject: %q", list())
	}
	var w whyDebug
	if body := debugged(t, n, "/debug/why?client=eve&channel=x", 200, &w); len(w.Refusals) != 1 || len(w.Clients) != 0 {
		t.Error(body)
	}
}

// A poll is listed while it waits.
func TestDebugPoll(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(t, n, "/poll?channel=x&clientId=me&timeout=50&lastEventId=e1-1")
	}()
	var got clientsDebug
	until(t, "the poll is listed", func() bool {
		debugged(t, n, "/debug/clients?client=me", 200, &got)
		return got.Count == 1 && len(got.Clients) == 1 && got.Clients[0].Kind == "poll" && got.Clients[0].Status == "polling"
	})
	u.publish("x", "1")
	<-done
}

// Of a client that stopped reading it is told what the node has for it.
func TestDebugBehind(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, engine string, ring int64, replays bool) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine, c.SSENode.RingBytes = engine, ring })
		path := "/events?channel=loud&channel=quiet&clientId=me"
		c := stalled(t, n, path)
		u.flood(n, "loud", 900, "")
		u.publish("quiet", told("for others", `{"role":"admin"}`)) // nobody owes it to this client
		last := u.publish("quiet", "1")
		until(t, "it is here", func() bool { return n.dispatch.head.Load() >= last })
		var got clientsDebug
		body := ""
		until(t, "it is behind", func() bool {
			body = debugged(t, n, "/debug/clients?client=me", 200, &got)
			return got.Count == 1 && got.Clients[0].Behind != nil && got.Clients[0].Behind.Why == "socket-full"
		})
		b := got.Clients[0].Behind
		loud, quiet := got.Clients[0].Channels[0], got.Clients[0].Channels[1]
		// What it has had, or has in its socket, is not counted: see inSockets.
		if b.Events == 0 || b.Bytes < int64(b.Events)*100 || loud.Owed == 0 || quiet.Owed != 1 || b.Events != loud.Owed+quiet.Owed ||
			replays != b.More || !replays && loud.Owed < 900-inSockets || loud.Owed > 900 || b.Position == nil {
			t.Errorf("%s", body)
		}
		var w whyDebug
		body = debugged(t, n, fmt.Sprintf("/debug/why?client=me&channel=quiet&id=%d", last), 200, &w)
		if w.Message.What != msgStored || len(w.Clients) != 1 || w.Clients[0].Why.What != whyBacklog || len(w.Clients[0].Channels) != 1 {
			t.Errorf("%s", body)
		}
		c.Close()
		until(t, "it is gone", func() bool { return n.stats.open() == 0 })
		var closes closesDebug
		body = debugged(t, n, "/debug/closes?client=me&limit=1", 200, &closes)
		if len(closes.Closes) != 1 || !closes.Truncated || closes.Closes[0].Status != "behind" || closes.Closes[0].UnsentBytes == 0 || closes.Closes[0].UnsentMore != replays || closes.Closes[0].Reason != "client-gone" ||
			!slices.Equal(closes.Closes[0].Channels, []string{"loud", "quiet"}) {
			t.Errorf("%s", body)
		}
	})
}

// Who was closed, and why, is remembered; of the last thousand.
func TestDebugCloses(t *testing.T) {
	t.Parallel()
	_, a, b := pairOpen(t, nil)
	open(t, a, "/events?channel=x&pattern=y:*&clientId=me").Close()
	until(t, "it is gone", func() bool { return a.stats.open() == 0 })
	open(t, b, "/events?channel=z&clientId=you").Close()
	until(t, "it is gone", func() bool { return b.stats.open() == 0 })
	var got closesDebug
	body := debugged(t, b, "/debug/closes", 200, &got)
	if len(got.Closes) != 2 || got.Closes[0].ClientID != "you" || got.Closes[1].ClientID != "me" || len(got.Nodes) != 2 || !got.Complete || got.Truncated || len(got.Losses) != 0 {
		t.Fatalf("%s", body)
	}
	c := got.Closes[1]
	if c.Node != "a" || c.Reason != "client-gone" || fmt.Sprint(c.Channels, c.Patterns) != "[x] [y:*]" {
		t.Errorf("%s", body)
	}
	began := got.Nodes[0].ClosesSince
	d := &a.stats.diary
	first := time.Now()
	for i := range mostNoted {
		d.closes.add(closeNote{whose: whose{clientID: fmt.Sprint(i)}, at: first.Add(time.Duration(i))}, func(n closeNote) time.Time { return n.at })
	}
	if debugged(t, b, "/debug/closes?client=me", 200, &got); len(got.Closes) != 0 || got.Nodes[0].ClosesSince == began {
		t.Errorf("it is not forgotten: %+v", got)
	}
	list, cut, _ := d.closes.newest(func(*closeNote) bool { return true }, mostNoted)
	if len(list) != mostNoted || cut || list[0].clientID != fmt.Sprint(mostNoted-1) || list[mostNoted-1].clientID != "0" || len(d.closes.list) != mostNoted {
		t.Errorf("%d remembered, %v, from %s", len(list), cut, list[0].clientID)
	}
	if body := debugged(t, b, "/debug/closes?limit=1000", 200, &got); !got.Truncated || len(got.Closes) == 0 {
		t.Errorf("%.500s", body)
	}
}

// The names in a note are bounded, and come back whole.
func TestNamesOf(t *testing.T) {
	long := strings.Repeat("a", notedNames/2)
	for _, list := range [][]string{{}, {"", "a\nb", "c"}, {long, "b", long, "c"}} {
		x := namesOf(len(list), func(i int) string { return list[i] })
		if got := x.list(); len(x.text) > notedNames+len(list) || len(got)+x.more != len(list) || !slices.Equal(got, list[:len(got)]) {
			t.Errorf("%.20q: %.20q and %d", list, got, x.more)
		}
	}
}

// later waits until what comes is known to be later than who is here: of clients only the
// tick in which they came is kept.
func later(t testing.TB, n *Node) {
	t.Helper()
	until(t, "all clients came in an earlier tick", func() bool {
		all := true
		onLoops(n, func(l *loop) {
			now := time.Now()
			l.each(func(s *session) { all = all && s.age(now) > engine.TickEvery })
		})
		return all
	})
}

// Why somebody did not get a message is told in one word, and in others.
func TestDebugWhy(t *testing.T) {
	t.Parallel()
	u, a, b := pairOpen(t, func(c *Config) { c.Routes = routes(t, "board throttle=1h; off history=off; env format=envelope") })
	early := u.publish("x", "before")
	until(t, "it is verified", func() bool { return b.dispatch.head.Load() > early })
	left := open(t, b, "/events?channel=x&clientId=left")
	settle(t, b)
	u.quiet(true) // after a pulse, who comes begins behind the message
	had := u.publish("x", "had")
	for want(t, left, "", "had"); left.LastEventID() == ""; {
		if _, err := left.NextWithin(wait); err != nil {
			t.Fatal(err)
		}
	}
	left.Close()
	until(t, "it is gone", func() bool { return b.stats.open() == 0 })
	me := open(t, b, "/events?channel=x&channel=board&channel=env&clientId=me&role=user")
	u.quiet(false)
	settle(t, b)
	later(t, b)
	u.publish("board", "1")
	want(t, me, "", "1")
	held := u.publish("board", "2")
	given := u.publish("x", "1")
	want(t, me, "", "1")
	other := u.publish("x", told("data", `{"role":"admin"}`))
	broken := u.publish("x", told("data", `7`))
	none := u.publish("env", "no envelope")
	end := u.publish("y", "of another")
	for _, n := range []*Node{a, b} {
		until(t, "all is here", func() bool { return n.dispatch.head.Load() >= end })
	}
	f := func(client, name string, id any, message, why string) string {
		t.Helper()
		var w whyDebug
		body := debugged(t, a, fmt.Sprintf("/debug/why?client=%s&channel=%s&id=%v", client, name, id), 200, &w)
		got := ""
		if len(w.Clients) > 0 && w.Clients[0].Why != nil {
			got = w.Clients[0].Why.What
		} else if len(w.Closes) > 0 && w.Closes[0].Why != nil {
			got = w.Closes[0].Why.What
		}
		if w.Message.What != message || got != why || w.Message.Says == "" || strings.Contains(body, "of another") {
			t.Errorf("%s on %s, %v: want %s and %s, got %s", client, name, id, message, why, body)
		}
		return body
	}
	f("me", "x", given, msgStored, whyGiven)
	f("me", "x", idOf(given), msgStored, whyGiven)
	f("me", "x", other, msgStored, whyCriteria)
	f("me", "x", early, msgStored, whyNoPosition)
	if body := f("me", "board", held, msgStored, whyThrottled); !strings.Contains(body, "just now") {
		t.Error(body)
	}
	f("me", "x", broken, msgNobody, "")
	f("me", "env", none, msgNobody, "")
	f("me", "y", end, msgStored, whyNotSubscribed)
	f("me", "x", end, msgOther, "")
	f("me", "x", end+1000, msgNotYet, whyNotHere)
	f("me", "x", "e0-7", msgEpoch, "")
	f("me", "off", 7, msgLive, "")
	f("left", "x", given, msgStored, whyNotConnected)
	f("left", "x", had, msgStored, whyGiven)
	f("me", "x", had, msgStored, whyUnknown) // it was stored about when the client came
	if body := f("never", "x", given, msgStored, ""); !strings.Contains(body, "never connected") {
		t.Error(body)
	}
	// Without an id it is the channel's last.
	var w whyDebug
	if body := debugged(t, b, "/debug/why?client=me&channel=x", 200, &w); w.Message.ID == nil || *w.Message.ID != idOf(broken) {
		t.Error(body)
	}
	if debugged(t, b, "/debug/why?client=me&channel=nothing", 200, &w); w.Message.What != msgNone {
		t.Errorf("%+v", w.Message)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	s, err := u.js.Stream(ctx, u.names.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(ctx, given); err != nil {
		t.Fatal(err)
	}
	f("me", "x", given, msgGone, whyGiven)
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	until(t, "a pulse is the first in the stream", func() bool { first, _ := a.history.first(ctx); return first > given })
	f("me", "x", given, msgExpired, whyGiven)
}

// What a client has skipped is told, while it is behind and afterwards.
func TestDebugWhySkipped(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.BehindAfter = 300 * time.Millisecond
		c.Routes = routes(t, "chatter priority=low")
	})
	path := "/events?channel=loud&channel=chatter&clientId=me"
	c := stalled(t, n, path)
	later(t, n)
	first := n.dispatch.head.Load()
	u.flood(n, "loud", 900, "chatter", 500, 600, 700)
	staysBehind(t, n)
	r := thaw(t, c)
	for gap := false; !gap; {
		gap = read(t, r).gap != nil
	}
	var closes closesDebug
	body := debugged(t, n, "/debug/closes?client=me", 200, &closes)
	if len(closes.Losses) != 1 || closes.Losses[0].Reason != gapDropped || fmt.Sprint(closes.Losses[0].Channels) != "[chatter]" || closes.Losses[0].To == nil {
		t.Fatalf("%s", body)
	}
	for x := read(t, r); x.channel != "chatter"; x = read(t, r) {
	}
	for x := (heard{}); x.i != 899; x = read(t, r) {
	}
	until(t, "it is current", func() bool { return behind(n) == 0 })
	skipped := seqOf(t, *closes.Losses[0].To)
	if skipped <= first {
		t.Fatalf("skipped up to %d", skipped)
	}
	var w whyDebug
	body = debugged(t, n, fmt.Sprintf("/debug/why?client=me&channel=chatter&id=%d", skipped), 200, &w)
	if len(w.Clients) != 1 || w.Clients[0].Why.What != "told-lost" {
		t.Errorf("%s", body)
	}
	body = debugged(t, n, fmt.Sprintf("/debug/why?client=me&channel=loud&id=%d", skipped+1), 200, &w)
	if len(w.Clients) != 1 || w.Clients[0].Why.What != whyGiven {
		t.Errorf("%s", body)
	}
}

// Who may ask: this machine, but no page that is open in a browser on it; others by key.
func TestDebugIsNotForAll(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		if err := c.SSENode.APIKeys.Decode(testKey); err != nil {
			t.Fatal(err)
		}
	})
	for _, path := range []string{"/debug/clients?client=me", "/debug/closes", "/debug/why?client=me&channel=x"} {
		debugged(t, n, path, 200, nil)
		debugged(t, n, path, 200, nil, "Host: localhost:9102")
		debugged(t, n, path, 403, nil, "Host: evil.example:9102")
		debugged(t, n, path, 403, nil, "Origin: https://evil.example")
		debugged(t, n, path, 200, nil, "Host: node.example:9102", bearer(testKey))
		debugged(t, n, path, 403, nil, "Host: node.example:9102", bearer("another"))
	}
	for remote, want := range map[string]bool{"127.0.0.1:5": true, "[::1]:5": true, "10.0.0.1:5": false, "": false} {
		r := &http.Request{Header: http.Header{}, Host: "127.0.0.1:9102", RemoteAddr: remote}
		if err := n.mayDebug(r); (err == nil) != want {
			t.Errorf("from %q: %v", remote, err)
		}
		if r.Header.Set("Authorization", "Bearer "+testKey); n.mayDebug(r) != nil {
			t.Errorf("from %q with a key: refused", remote)
		}
	}
	for _, bad := range []string{
		"clients", "clients?client=a&sub=b", "clients?client=a&channel=b", "clients?client=a&client=b", "clients?client=" + url.QueryEscape("a b"), "clients?sub=",
		"clients?client=a&limit=0", "clients?client=a&limit=1001", "clients?client=a&id=7", "clients?client=a&atributes=1", "clients?client=a&attributes=x",
		"clients?sub=" + strings.Repeat("a", longestSubject+1), "clients?channel=" + strings.Repeat("a", 2000), "closes?channel=x", "why?client=a", "why?channel=x", "why?client=a&channel=x&id=x", "why?client=a&channel=x&id=0",
	} {
		debugged(t, n, "/debug/"+bad, 400, nil)
	}
}

// A node that does not answer is named.
func TestDebugIncomplete(t *testing.T) {
	t.Parallel()
	_, a, b := pairOpen(t, nil)
	open(t, a, "/events?channel=x&clientId=me")
	until(t, "it is there", func() bool { return a.stats.open() == 1 })
	for _, l := range b.loops {
		defer hold(l)()
	}
	until(t, "the other one has answered in time", func() bool {
		var got clientsDebug
		if err := json.Unmarshal([]byte(fetchDebug(t, a, "/debug/clients?client=me").body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Complete {
			t.Fatalf("%+v", got)
		}
		return got.Count == 1 && slices.Equal(got.Missing, []string{"b"})
	})
}
