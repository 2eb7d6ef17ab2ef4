package ssenode

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"sluice/shared/sseclient"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

func refreshBody(clientID, token string) string {
	b, _ := json.Marshal(map[string]string{"clientId": clientID, "token": token})
	return string(b)
}

// acquainted waits until the nodes know each other.
func acquainted(t testing.TB, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		until(t, "the nodes know each other", func() bool {
			count, known := n.asker.Nodes()
			return count == len(nodes) && known
		})
	}
}

// pair is two nodes that want tokens, on one NATS.
func pair(t *testing.T, engine string) (u *upstream, a, b *Node) {
	t.Helper()
	u = newUpstream(t)
	for i, n := range []**Node{&a, &b} {
		*n = guarded(t, u, func(s *Settings) {
			s.Engine, s.Name, s.JWT.Leeway = engine, []string{"a", "b"}[i], 0
		})
	}
	acquainted(t, a, b)
	return u, a, b
}

// ends waits for the end of a stream; what comes before is of no interest.
func ends(t testing.TB, s *sseclient.Stream) {
	t.Helper()
	for limit := time.Now().Add(wait); time.Now().Before(limit); {
		if _, err := s.NextData(wait); err != nil {
			return
		}
	}
	t.Fatal("the stream does not end")
}

// A newer token, brought to either node, keeps the streams of its client and subject
// open on both; those of others end.
func TestRefresh(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u, a, b := pair(t, engine)
		short := query(hs(t, "exp", in(6*time.Second)))
		s1 := open(t, a, "/events?channel=x&clientId=anna.tab"+short)
		s2 := open(t, b, "/events?channel=x&clientId=anna.tab"+short)
		other := open(t, b, "/events?channel=x&clientId=anna.other"+short)
		exp := in(time.Hour)
		got := post(t, b, "/refresh", refreshBody("anna.tab", hs(t, "exp", exp)), "Content-Type: text/plain")
		if got.status != 200 || got.body != `{"success":true,"connections":2}`+"\n" || got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Fatalf("refresh: %+v", got)
		}
		// One without an end keeps a stream for ever, and one with an end again not.
		s3 := open(t, a, "/events?channel=x&clientId=anna.ever"+query(hs(t, "exp", nil)))
		if got := post(t, b, "/refresh", refreshBody("anna.ever", hs(t, "exp", in(3*time.Second)))); got.status != 200 {
			t.Fatalf("refresh: %+v", got)
		}
		ends(t, s3)
		ends(t, other)
		until(t, "one is closed", func() bool { return b.stats.closes[tokenExpired].Load() == 1 })
		if a.stats.open() != 1 || b.stats.open() != 1 {
			t.Errorf("%d and %d streams are open, want 1 and 1", a.stats.open(), b.stats.open())
		}
		u.publish("x", "after")
		for _, s := range []*sseclient.Stream{s1, s2} {
			for ev := next(t, s); ev.Data != "after"; ev = next(t, s) {
				// It may have been told that the old one ends.
				if ev.Name != "token-expiring" {
					t.Fatalf("got %+v", ev)
				}
			}
		}
		// It ends with the newer one, and is told so.
		end := in(4 * time.Second)
		if got := post(t, a, "/refresh", refreshBody("anna.tab", hs(t, "exp", end))); got.status != 200 {
			t.Fatalf("refresh: %+v", got)
		}
		var told expiringEvent
		if ev := next(t, s1); ev.Name != "token-expiring" || json.Unmarshal([]byte(ev.Data), &told) != nil ||
			told.ExpiresAt != time.Unix(end, 0).UTC().Format(time.RFC3339) {
			t.Errorf("got %+v, want token-expiring at %d", ev, end)
		}
		ends(t, s1)
		ends(t, s2)
		if got := b.stats.refreshed.Load(); got != 3 {
			t.Errorf("counted: %d refreshed by b, want 3", got)
		}
	})
}

// Every request has its answer: the codes are those of connecting.
func TestRefreshAnswers(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t, "auto")
	open(t, a, "/events?channel=x&clientId=anna.tab"+query(hs(t)))
	good := hs(t)
	f := func(n *Node, body string, status int, text string) {
		t.Helper()
		if got := post(t, n, "/refresh", body); got.status != status || !strings.Contains(got.body, text) {
			t.Errorf("%s: got %d %s, want %d with %s", clip(body), got.status, got.body, status, text)
		}
	}
	f(b, refreshBody("anna.tab", good), 200, `{"success":true,"connections":1}`)
	f(b, refreshBody("anna.nobody", good), 404, "anna.nobody")
	f(b, refreshBody("anna", good), 404, "anna")
	f(b, refreshBody("eve", good), 403, `{"error":"Forbidden","clientId":"eve"}`)
	f(b, refreshBody("anna.tab", hs(t, "sub", "eve")), 403, `"clientId":"anna.tab"`)
	f(b, refreshBody("anna.tab", hs(t, "sub", nil)), 403, `"clientId":"anna.tab"`)
	f(b, refreshBody("anna.tab", ""), 401, code(auth.Missing))
	f(b, refreshBody("anna.tab", "nonsense"), 401, code(auth.Malformed))
	f(b, refreshBody("anna.tab", good+"A"), 401, code(auth.BadSignature))
	f(b, refreshBody("anna.tab", hs(t, "exp", in(-time.Minute))), 401, code(auth.Expired))
	f(b, refreshBody("anna.tab", hs(t, "nbf", in(time.Minute))), 401, code(auth.NotYetValid))
	f(b, refreshBody("anna.tab", hs(t, "iss", "x")), 401, code(auth.Issuer))
	f(b, refreshBody("anna.tab", hs(t, "aud", "x")), 401, code(auth.Audience))
	f(b, "", 400, "body")
	f(b, "token="+good, 400, "body")
	f(b, `[]`, 400, "body")
	f(b, refreshBody("anna.tab", good)+"x", 400, "body")
	f(b, `{"token":"`+good+`"}`, 400, "clientId")
	f(b, refreshBody("a/b", good), 400, "clientId")
	f(b, refreshBody(strings.Repeat("a", 65), good), 400, "clientId")
	f(b, strings.Repeat(" ", b.cfg.SSENode.MaxBody+1), 413, "65536 bytes")
	f(b, `{"more":[1],"token":"`+good+`","clientId":"anna.tab"}`, 200, `"connections":1`)
	if resp, body := get(t, http.MethodGet, base(b)+"/refresh"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("GET: %d %s", resp.StatusCode, body)
	}
	resp, _ := get(t, http.MethodOptions, base(b)+"/refresh")
	if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Methods") != "POST, OPTIONS" ||
		!strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
	// A cookie is no token here, so that no page can act for its user.
	if got := post(t, b, "/refresh", refreshBody("anna.tab", ""), cookie(good)); got.status != 401 {
		t.Errorf("with a cookie: %+v", got)
	}
}

// The token that was shown last counts: a stream with a channel that it does not
// allow is closed, the client's others go on.
func TestRefreshNarrower(t *testing.T) {
	t.Parallel()
	u, a, b := pair(t, "auto")
	both := query(hs(t, "channels", []string{"x", "game:>"}))
	wide := open(t, a, "/events?channel=x&pattern=game:%3E&clientId=anna"+both)
	narrow := open(t, b, "/events?channel=x&clientId=anna"+both)
	public := open(t, b, "/events?channel=free&channel=user:anna&clientId=anna"+both)
	less := refreshBody("anna", hs(t, "channels", []string{"x", "game:1"}))
	if got := post(t, b, "/refresh", less); got.status != 200 || got.body != `{"success":true,"connections":2,"closed":1}`+"\n" {
		t.Fatalf("refresh: %+v", got)
	}
	ends(t, wide)
	u.publish("x", "on")
	want(t, narrow, "", "on")
	u.publish("free", "on")
	want(t, public, "", "on")
	if a.stats.closes[tokenExpired].Load() != 1 {
		t.Error("not counted as token-expired")
	}
	// When none goes on, the answer says which channel it was.
	narrow.Close()
	public.Close()
	until(t, "they are gone", func() bool { return b.stats.open() == 0 })
	wide = open(t, a, "/events?channel=x&pattern=game:%3E&clientId=anna"+both)
	if got := post(t, b, "/refresh", less); got.status != 403 || got.body != `{"error":"Forbidden","channel":"game:>"}`+"\n" {
		t.Errorf("refresh: %+v", got)
	}
	ends(t, wide)
}

// So does a channel that a stream, which is behind, has not got yet.
func TestRefreshNarrowerBehind(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	acquainted(t, n)
	both := hs(t, "channels", []string{"x", "y"})
	s := open(t, n, "/events?channel=x&clientId=anna"+query(both))
	settle(t, n)
	n.stall("anna", true)
	changes(t, n, "subscribe", "anna", "y", 1, bearer(both))
	if got := n.sessionsOf("y"); got != 0 {
		t.Errorf("%d streams have it already", got)
	}
	if got := post(t, n, "/refresh", refreshBody("anna", hs(t, "channels", []string{"x"}))); got.status != 403 || got.body != `{"error":"Forbidden","channel":"y"}`+"\n" {
		t.Errorf("refresh: %+v", got)
	}
	ends(t, s)
}

// Without authentication there is nothing to extend, and pages that refresh get the
// same answers.
func TestRefreshOpen(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	a, b := startNode(t, u, nil), startNode(t, u, func(c *Config) { c.SSENode.Name = "n2" })
	acquainted(t, a, b)
	s := open(t, a, "/events?channel=x&clientId=me")
	if got := post(t, b, "/refresh", refreshBody("me", "whatever")); got.status != 200 || !strings.Contains(got.body, `"connections":1`) {
		t.Errorf("refresh: %+v", got)
	}
	s.Close()
	until(t, "it is gone", func() bool { return a.stats.open() == 0 })
	if got := post(t, b, "/refresh", refreshBody("me", "whatever")); got.status != 404 {
		t.Errorf("refresh: %+v", got)
	}
}

// frozenPeer lets the node know of another one that answers nothing.
func frozenPeer(t testing.TB, u *upstream, n *Node) {
	t.Helper()
	hello, err := wire.EncodeControl(wire.Hello{Version: wire.ControlVersion, ID: "frozen", Name: "frozen"})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.nc.Publish(u.names.Hellos(), hello); err != nil {
		t.Fatal(err)
	}
	until(t, "the frozen one is known", func() bool { count, _ := n.asker.Nodes(); return count == 2 })
}

// A node that does not answer is not passed over in silence: the client is told to
// try again if its streams may be there. Without NATS nobody can be asked.
func TestRefreshIncomplete(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	acquainted(t, n)
	refresh := func() asked {
		frozenPeer(t, u, n) // it says so now and then
		return fetch(t, http.MethodPost, base(n)+"/refresh", refreshBody("anna", hs(t)))
	}
	if got := refresh(); got.status != 503 || got.header.Get("Retry-After") != "1" {
		t.Errorf("nobody here: %+v", got)
	}
	open(t, n, "/events?channel=x&clientId=anna"+query(hs(t)))
	until(t, "this one has answered in time", func() bool {
		return refresh().body == `{"success":true,"connections":1,"complete":false}`+"\n"
	})
	u.stop()
	until(t, "NATS is away", func() bool { return !n.nc.IsConnected() })
	if got := post(t, n, "/refresh", refreshBody("anna", hs(t))); got.status != 503 {
		t.Errorf("without NATS: %+v", got)
	}
}

// What nodes are asked that is none of their business is refused and counted, and
// every node shows as a micro service.
func TestService(t *testing.T) {
	t.Parallel()
	u, a, b := pair(t, "auto")
	f := func(data, refused string) {
		t.Helper()
		m, err := u.nc.Request(u.names.NodeVerb(wire.VerbRefresh), []byte(data), wait)
		if err != nil {
			t.Fatal(err)
		}
		var answer wire.Answer
		if err := wire.DecodeControl(m.Data, &answer); err != nil || answer.Refused != refused || answer.ID == "" {
			t.Errorf("%s: got %+v, %v", clip(data), answer, err)
		}
	}
	f(`{"v":1,"body":{"clientId":"nobody","claims":{}}}`, "")
	f(`nonsense`, wire.RefusedMalformed)
	f(`{"v":1,"body":[]}`, wire.RefusedMalformed)
	f(`{"v":2,"body":{}}`, wire.RefusedVersion)
	until(t, "both have counted", func() bool {
		return a.stats.refusedAsks[0].Load() == 1 && b.stats.refusedAsks[1].Load() == 2 && a.stats.asked.Load() == 4
	})
	// Claims that do not count extend nothing, whoever says them.
	s := open(t, a, "/events?channel=x&clientId=anna"+query(hs(t, "exp", in(5*time.Second))))
	for _, claims := range []string{`{}`, `{"sub":"anna","exp":1}`, `{"sub":"anna","channels":[">"],"exp":9999999999,"iss":"x"}`,
		`{"sub":"eve","channels":[">"],"exp":9999999999,"iss":"` + testIssuer + `","aud":"sluice"}`} {
		got, err := b.asker.Ask(t.Context(), wire.VerbRefresh, wire.Refresh{ClientID: "anna", Claims: json.RawMessage(claims)})
		if err != nil || !got.Complete || len(got.List) != 2 {
			t.Fatalf("%s: %+v, %v", claims, got, err)
		}
		for _, answer := range got.List {
			if string(answer.Body) != "{}" {
				t.Errorf("%s: %s does %s", claims, answer.Name, answer.Body)
			}
		}
	}
	ends(t, s)

	// No more at once than are bounded, and none stays in work.
	a.service.inWork[wire.VerbRefresh].Add(mostInWork)
	b.service.inWork[wire.VerbRefresh].Add(mostInWork)
	f(`{"v":1,"body":{"clientId":"nobody","claims":{}}}`, wire.RefusedBusy)
	until(t, "both have counted", func() bool {
		return a.stats.refusedAsks[2].Load() == 1 && b.stats.refusedAsks[2].Load() == 1
	})
	// Other verbs are not hindered.
	if got, err := b.asker.Ask(t.Context(), wire.VerbClients, wire.Clients{ClientID: "anna"}); err != nil || !got.Complete {
		t.Errorf("%+v %v", got, err)
	}
	for _, n := range []*Node{a, b} {
		if left := n.service.inWork[wire.VerbRefresh].Add(-mostInWork); left != 0 {
			t.Errorf("%d are in work", left)
		}
	}

	for _, n := range []*Node{a, b} {
		until(t, "NATS has counted the last one, after it was answered", func() bool {
			list := n.service.micro.Stats().Endpoints
			i := slices.IndexFunc(list, func(e *micro.EndpointStats) bool { return e.Name == wire.VerbRefresh })
			return i >= 0 && list[i].NumErrors == 4
		})
	}
	// What `nats micro ls`, `info` and `stats` ask.
	for _, verb := range []micro.Verb{micro.PingVerb, micro.InfoVerb, micro.StatsVerb} {
		subject, err := micro.ControlSubject(verb, "sluice-ssenode", "")
		if err != nil {
			t.Fatal(err)
		}
		sub, err := u.nc.SubscribeSync(u.nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := u.nc.PublishRequest(subject, sub.Subject, nil); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 2 {
			m, err := sub.NextMsg(wait)
			if err != nil {
				t.Fatal(err)
			}
			var stats micro.Stats // those of the others are some of its fields
			if err := json.Unmarshal(m.Data, &stats); err != nil {
				t.Fatal(err)
			}
			seen[stats.Metadata["node"]] = true
			if verb == micro.PingVerb {
				continue
			}
			i := slices.IndexFunc(stats.Endpoints, func(e *micro.EndpointStats) bool { return e.Subject == "sluice.ctl.node.refresh" })
			if len(stats.Endpoints) != len(wire.Verbs) || i < 0 || verb == micro.StatsVerb && stats.Endpoints[i].NumErrors != 4 {
				t.Errorf("%s %s", verb, m.Data)
			}
		}
		if !seen["a"] || !seen["b"] {
			t.Errorf("%s: seen: %v", verb, seen)
		}
	}
}

// What the newer token says of the client counts for events that come from then on;
// channels that come by themselves stay.
func TestRefreshChangesAttributes(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, func(s *Settings) {
		if err := s.AutoChannels.Decode("sse:broadcast,sse:group:{claim.groups}"); err != nil {
			t.Fatal(err)
		}
	})
	acquainted(t, n)
	s := open(t, n, "/events?channel=x&clientId=anna"+query(hs(t, "role", "user", "groups", []string{"g"})))
	u.publish("x", told("no", `{"role":"admin"}`))
	u.publish("x", told("user", `{"role":"user"}`))
	want(t, s, "e", `"user"`)
	if a := post(t, n, "/refresh", refreshBody("anna", hs(t, "role", "admin", "groups", []string{"g", "h"}))); a.status != 200 {
		t.Fatal(a)
	}
	u.publish("x", told("no", `{"role":"user"}`))
	u.publish("sse:group:g", told("admin", `{"role":"admin"}`))
	want(t, s, "e", `"admin"`)
	u.publish("sse:broadcast", "all")
	want(t, s, "", "all")
}

// Without authentication all streams of a clientId are told, with attributes or not.
func TestRefreshWithoutAuthentication(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	acquainted(t, n)
	open(t, n, "/events?channel=x&clientId=anna")
	open(t, n, "/events?channel=x&clientId=anna&role=admin")
	a := post(t, n, "/refresh", refreshBody("anna", ""))
	if a.status != 200 || !strings.Contains(a.body, `"connections":2`) {
		t.Error(a)
	}
}
