package ssenode

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/wire"
)

const testKey = "a-key-of-some-program"

// seen asks, with header lines, and decodes the answer.
func seen(t testing.TB, n *Node, path string, status int, into any, lines ...string) {
	t.Helper()
	a := ask(t, n, path, lines...)
	if a.status != status {
		t.Fatalf("%s: %+v, want %d", path, a, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
	}
}

// Each connection that a channel reaches is counted once, by its name or by patterns,
// on all nodes, and is gone when it is gone.
func TestPresence(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, a, b := pairOpen(t, func(c *Config) {
			c.SSENode.Engine = engine
			if err := c.SSENode.APIKeys.Decode("another-key-of-another, " + testKey); err != nil {
				t.Fatal(err)
			}
		})
		first := open(t, a, "/events?channel=game:1&clientId=one")
		open(t, a, "/events?channel=game:2&clientId=no")
		both := open(t, b, "/events?channel=game:1&pattern=game:*&pattern=%3E&clientId=two")
		open(t, b, "/events?pattern=game:%3E&clientId=three")
		key := bearer(testKey)
		var p struct {
			Channel  string
			Count    int
			Complete bool
			Clients  []wire.PresentClient
		}
		for _, n := range []*Node{a, b} {
			seen(t, n, "/presence?channel=game:1", 200, &p, key)
			got := map[string]string{}
			for _, c := range p.Clients {
				got[c.ClientID] = c.Node
				if at, err := time.Parse(time.RFC3339, c.ConnectedAt); err != nil || time.Since(at).Abs() > wait || c.Subject != nil || c.Status != "connected" && c.Status != "behind" {
					t.Errorf("%+v", c)
				}
			}
			if p.Channel != "game:1" || p.Count != 3 || !p.Complete || fmt.Sprint(got) != "map[one:a three:b two:b]" {
				t.Errorf("%+v %v", p, got)
			}
		}
		// Without the key only how many.
		if got := ask(t, a, "/presence?channel=game:1").body; got != `{"channel":"game:1","count":3,"complete":true}`+"\n" {
			t.Error(got)
		}
		both.Close()
		until(t, "one is gone", func() bool { return b.stats.open() == 1 })
		changes(t, b, "subscribe", "no", "game:1", 1)
		changes(t, b, "unsubscribe", "one", "game:1", 1)
		wantChanged(t, first, "unsubscribed", "one", "game:1")
		seen(t, a, "/presence?channel=game:1", 200, &p, key)
		if p.Count != 2 || len(p.Clients) != 2 {
			t.Errorf("%+v", p)
		}
		seen(t, a, "/presence?channel=nobody", 200, &p, key)
		if p.Count != 0 || p.Clients == nil || len(p.Clients) != 0 {
			t.Errorf("%+v", p)
		}
		seen(t, a, "/presence", 400, nil)
		seen(t, a, "/presence?channel=a&channel=b", 400, nil)
		seen(t, a, "/presence?channel=a", 401, nil, bearer("no-such-key-anywhere"))
	})
}

// What a client's connections are, on all nodes.
func TestClientsOf(t *testing.T) {
	t.Parallel()
	_, a, b := pairOpen(t, func(c *Config) {
		if err := c.SSENode.APIKeys.Decode(testKey); err != nil {
			t.Fatal(err)
		}
	})
	s := open(t, a, "/events?channel=x&pattern=game:*&clientId=me")
	open(t, b, "/events?channel=y&clientId=me")
	changes(t, b, "unsubscribe", "me", "x", 2)
	wantChanged(t, s, "unsubscribed", "me", "x")
	changes(t, b, "subscribe", "me", "z", 2)
	wantChanged(t, s, "subscribed", "me", "z")
	var c struct {
		ClientID    string
		Count       int
		Complete    bool
		Connections []wire.Connection
	}
	until(t, "both have it", func() bool {
		seen(t, b, "/clients/me", 200, &c, bearer(testKey))
		return len(c.Connections) == 2 && len(c.Connections[0].Channels)+len(c.Connections[1].Channels) == 3
	})
	byNode := map[string]wire.Connection{}
	for _, x := range c.Connections {
		byNode[x.Node] = x
		if at, err := time.Parse(time.RFC3339, x.RegisteredAt); err != nil || time.Since(at).Abs() > wait || x.PodName != x.Node {
			t.Errorf("%+v", x)
		}
	}
	if x := byNode["a"]; fmt.Sprint(x.Channels, x.Patterns) != "[z] [game:*]" {
		t.Errorf("%+v", x)
	}
	if x := byNode["b"]; fmt.Sprint(x.Channels, x.Patterns) != "[y z] []" {
		t.Errorf("%+v", x)
	}
	if got := ask(t, a, "/clients/me").body; got != `{"clientId":"me","count":2,"complete":true}`+"\n" {
		t.Error(got)
	}
	seen(t, a, "/clients/nobody", 404, nil)
	seen(t, a, "/clients/a%20b", 400, nil)
}

// With authentication it takes a key, or a token that allows it.
func TestPresenceAccess(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, func(s *Settings) {
		if err := s.APIKeys.Decode(testKey); err != nil {
			t.Fatal(err)
		}
	})
	acquainted(t, n)
	open(t, n, "/events?channel=x&clientId=anna.1"+query(hs(t)))
	for _, path := range []string{"/presence?channel=x", "/clients/anna.1"} {
		seen(t, n, path, 401, nil)
		seen(t, n, path, 401, nil, bearer("wrong"))
		seen(t, n, path, 403, nil, bearer(hs(t)))
		seen(t, n, path, 403, nil, bearer(hs(t, "presence", "true")))
		seen(t, n, path, 200, nil, bearer(hs(t, "presence", true)))
		seen(t, n, path, 200, nil, bearer(testKey))
	}
	if a := ask(t, n, "/presence?channel=x", bearer(testKey)); !strings.Contains(a.body, `"subject":"anna"`) {
		t.Error(a)
	}
}

// A node that does not answer makes the answer incomplete, and recipients unknown.
func TestPresenceIncomplete(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	acquainted(t, n)
	open(t, n, "/events?channel=x&clientId=me")
	frozenPeer(t, u, n)
	until(t, "this one has answered in time", func() bool {
		return fetch(t, http.MethodGet, base(n)+"/presence?channel=x", "").body == `{"channel":"x","count":1,"complete":false}`+"\n"
	})
	if count, known, err := n.asker.Recipients(t.Context(), "x", nil); known || err != nil {
		t.Errorf("recipients: %d %v %v", count, known, err)
	}
	frozenPeer(t, u, n) // it says so now and then
	if a := fetch(t, http.MethodGet, base(n)+"/clients/you", ""); a.status != 503 {
		t.Error(a)
	}
}

// Many clients are counted, and as many listed as may be, in messages that NATS takes.
func TestPresenceMany(t *testing.T) {
	t.Parallel()
	_, a, b := pairOpen(t, func(c *Config) {
		if err := c.SSENode.APIKeys.Decode(testKey); err != nil {
			t.Fatal(err)
		}
	})
	const each = 1200
	for _, n := range []*Node{a, b} {
		for i := range each {
			l := n.loops[i%len(n.loops)]
			s := &session{loop: l, sock: &nowhere{}, clientID: strings.Repeat("c", 60), lag: &lag{}}
			p := pattern(t, []string{"x", "*"}[i%2])
			if _, _, err := n.hub.join(p, s); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			l.ask(func() { s.topicsAdd(); close(done) })
			<-done
		}
	}
	var p wire.Present
	var answers control.Answers
	until(t, "both answer in time", func() (ok bool) {
		var err error
		answers, err = a.asker.Ask(t.Context(), wire.VerbPresence, wire.Presence{Subject: "x", List: true})
		return err == nil && answers.Complete && len(answers.List) == 2
	})
	for _, one := range answers.List {
		if err := wire.DecodeControl(one.Body, &p); err != nil || p.Count != each || len(p.Clients) != wire.MostListed {
			t.Errorf("%d, %d listed, %v", p.Count, len(p.Clients), err)
		}
	}
	until(t, "both are in one answer", func() bool {
		var all struct {
			Count    int
			Complete bool
			Clients  []wire.PresentClient
		}
		seen(t, b, "/presence?channel=x", 200, &all, bearer(testKey))
		if all.Complete && (all.Count != 2*each || len(all.Clients) != wire.MostListed) {
			t.Fatalf("%d, %d listed", all.Count, len(all.Clients))
		}
		return all.Complete
	})
	until(t, "both count in time", func() bool {
		count, known, err := b.asker.Recipients(t.Context(), "x", nil)
		return count == 2*each && known && err == nil
	})
}

// Who publishes learns how many connections an event reaches, by their attributes, too.
func TestRecipients(t *testing.T) {
	t.Parallel()
	u, a, b := pairOpen(t, nil)
	publisher := outsider(t, u, 2)
	for i, role := range []string{"admin", "admin", "user", ""} {
		for _, n := range []*Node{a, b} {
			path := "/events?channel=x&pattern=*"
			if i%2 == 1 {
				path = "/events?pattern=*"
			}
			if role != "" {
				path += "&role=" + role
			}
			open(t, n, path)
		}
	}
	f := func(name, criteria string, want int) {
		t.Helper()
		var raw json.RawMessage
		if criteria != "" {
			raw = json.RawMessage(criteria)
		}
		var n int
		until(t, "both count in time", func() (known bool) {
			var err error
			if n, known, err = publisher.Recipients(t.Context(), name, raw); err != nil {
				t.Fatal(err)
			}
			return known
		})
		if n != want {
			t.Errorf("%s %s: %d, want %d", name, criteria, n, want)
		}
	}
	f("x", "", 8)
	f("x", "{}", 8)
	f("x", `{"role":"admin"}`, 4)
	f("x", `{"role":["admin","user"]}`, 6)
	f("x", `{"role":[]}`, 0)
	f("x", `[]`, 0)
	f("y", "", 8)
	f("y", `{"role":"user"}`, 2)
	f("y:z", "", 0)
	if _, _, err := publisher.Recipients(t.Context(), strings.Repeat("x", 2000), nil); err == nil {
		t.Error("a name that is too long is no error")
	}
	resp, _ := get(t, http.MethodPost, base(a)+"/presence")
	if resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

func pattern(t testing.TB, text string) []channel.Pattern {
	t.Helper()
	p, err := channel.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return []channel.Pattern{p}
}

// topicsAdd makes the session a client of its topics, and of nothing else of the loop's.
func (s *session) topicsAdd() {
	s.behind = true // it is given nothing
	for i := range s.subs {
		s.subs[i].topic.on(s.loop).add(s, i)
	}
}
