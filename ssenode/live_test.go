package ssenode

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/shared/control"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

func changeBody(clientID, channel string) string {
	b, _ := json.Marshal(map[string]string{"clientId": clientID, "channel": channel})
	return string(b)
}

// changes asks, and wants so many connections to be changed.
func changes(t testing.TB, n *Node, verb, clientID, channel string, connections int, lines ...string) {
	t.Helper()
	want := fmt.Sprintf(`{"success":true,"connections":%d}`+"\n", connections)
	if got := post(t, n, "/"+verb, changeBody(clientID, channel), lines...); got.status != 200 || got.body != want {
		t.Fatalf("%s %s: %+v", verb, channel, got)
	}
}

// wantChanged checks that the next event tells of a change.
func wantChanged(t testing.TB, s *sseclient.Stream, name, clientID, channel string) sseclient.Event {
	t.Helper()
	ev := next(t, s)
	var e changedEvent
	if err := json.Unmarshal([]byte(ev.Data), &e); ev.Name != name || err != nil || e.ClientID != clientID || e.Channel != channel {
		t.Fatalf("got %+v, want %s %s", ev, name, channel)
	}
	if at, err := time.Parse(time.RFC3339, e.Timestamp); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("timestamp %q", e.Timestamp)
	}
	return ev
}

// pairOpen is two nodes without authentication, on one NATS.
func pairOpen(t *testing.T, change func(*Config)) (u *upstream, a, b *Node) {
	t.Helper()
	u = newUpstream(t)
	for i, n := range []**Node{&a, &b} {
		*n = startNode(t, u, func(c *Config) {
			if change != nil {
				change(c)
			}
			c.SSENode.Name = []string{"a", "b"}[i]
		})
	}
	acquainted(t, a, b)
	return u, a, b
}

// A channel is added to all streams of a client, wherever they are, and taken away
// again; those of others hear nothing.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u, a, b := pairOpen(t, func(c *Config) { c.SSENode.Engine = engine })
		s1, s2 := open(t, a, "/events?channel=x&clientId=me"), open(t, b, "/events?channel=x&clientId=me&wrap=1")
		other := open(t, b, "/events?channel=x&clientId=you")
		settle(t, a)
		u.publish("y", "before")
		changes(t, b, "subscribe", "me", "y", 2)
		for _, s := range []*sseclient.Stream{s1, s2} {
			wantChanged(t, s, "subscribed", "me", "y")
		}
		u.publish("y", "yes")
		want(t, s1, "", "yes")
		want(t, s2, "", `{"channel":"y","event":null,"data":"yes"}`)
		settle(t, a)
		settle(t, b)
		if u.publish("y", "id"); want(t, s1, "", "id").ID == "" {
			t.Error("no id though it is settled")
		}
		want(t, s2, "", `{"channel":"y","event":null,"data":"id"}`)
		until(t, "it shares what is written with the others again", func() bool {
			u.publish("y", "more")
			want(t, s1, "", "more")
			want(t, s2, "", `{"channel":"y","event":null,"data":"more"}`)
			cut := false
			onLoops(a, func(l *loop) {
				cut = cut || slices.ContainsFunc(l.clients.of("me"), func(s *session) bool { return s.cut })
			})
			return !cut
		})
		// There already: nothing changes.
		changes(t, a, "subscribe", "me", "y", 2)
		changes(t, a, "unsubscribe", "me", "z", 2)
		changes(t, a, "unsubscribe", "me", "y", 2)
		for _, s := range []*sseclient.Stream{s1, s2} {
			if wantChanged(t, s, "unsubscribed", "me", "y").ID == "" {
				t.Error("no position")
			}
		}
		u.publish("y", "no")
		u.publish("x", "on")
		want(t, s1, "", "on")
		want(t, s2, "", `{"channel":"x","event":null,"data":"on"}`)
		want(t, other, "", "on")
		// Down to none, and up again.
		changes(t, a, "unsubscribe", "me", "x", 2)
		wantChanged(t, s1, "unsubscribed", "me", "x")
		changes(t, a, "subscribe", "me", "", 2)
		wantChanged(t, s1, "subscribed", "me", "")
		u.publish("", "empty")
		want(t, s1, "", "empty")
		if got := a.stats.subscribed.Load() + b.stats.subscribed.Load(); got != 4 {
			t.Errorf("counted: %d, want 4", got)
		}
		// When they leave, nothing of theirs is left.
		for _, s := range []*sseclient.Stream{s1, s2, other} {
			s.Close()
		}
		for _, n := range []*Node{a, b} {
			until(t, "no topic is left", func() bool { topics, _ := n.hub.counts(); return topics == 0 })
		}
	})
}

// A channel that one of the stream's patterns matches is there, whatever is asked for;
// one without history begins at once.
func TestSubscribeOverlap(t *testing.T) {
	t.Parallel()
	u, a, _ := pairOpen(t, func(c *Config) {
		if err := c.Routes.Decode("off:> history=off"); err != nil {
			t.Fatal(err)
		}
	})
	s := open(t, a, "/events?channel=game:1&pattern=game:*&clientId=me")
	settle(t, a)
	changes(t, a, "subscribe", "me", "game:2", 1)
	changes(t, a, "unsubscribe", "me", "game:1", 1)
	u.publish("game:1", "1")
	u.publish("game:2", "2")
	want(t, s, "", "1")
	want(t, s, "", "2")
	changes(t, a, "subscribe", "me", "off:1", 1)
	wantChanged(t, s, "subscribed", "me", "off:1")
	u.live("off:1", "live")
	want(t, s, "", "live")
}

// Every request has its answer.
func TestSubscribeAnswers(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t, "auto")
	a.cfg.SSENode.MaxChannels, b.cfg.SSENode.MaxChannels = 2, 2
	open(t, a, "/events?channel=x&clientId=anna.tab"+query(hs(t)))
	good := bearer(hs(t))
	f := func(path, body string, status int, text string, lines ...string) {
		t.Helper()
		if got := post(t, b, path, body, lines...); got.status != status || !strings.Contains(got.body, text) {
			t.Errorf("%s: got %d %s, want %d with %s", clip(body), got.status, got.body, status, text)
		}
	}
	mine := changeBody("anna.tab", "free")
	f("/subscribe", mine, 401, code(auth.Missing))
	f("/subscribe", mine, 401, code(auth.Malformed), bearer("x"))
	f("/subscribe", mine, 403, `"clientId":"anna.tab"`, bearer(hs(t, "sub", "eve")))
	f("/subscribe", changeBody("anna.tab", "secret"), 403, noChannel("secret"), good)
	f("/subscribe", changeBody("anna.tab", "user:eve"), 403, noChannel("user:eve"), good)
	f("/subscribe", changeBody("anna.nobody", "free"), 404, "anna.nobody", good)
	f("/subscribe", mine, 403, `"origin"`, cookie(hs(t)), "Origin: https://evil.example")
	// What a token grants does not outlive it.
	short := bearer(hs(t, "exp", in(20*time.Second)))
	f("/subscribe", mine, 403, "ends later", short)
	f("/unsubscribe", mine, 200, `"connections":1`, short)
	f("/subscribe", changeBody("anna.tab", "x"), 200, `"connections":1`, short) // it is there
	f("/subscribe?token="+hs(t), mine, 200, `"connections":1`)
	f("/subscribe", changeBody("anna.tab", "user:anna"), 400, "at", good)
	f("/subscribe", mine, 200, `"connections":1`, good)
	f("/unsubscribe", changeBody("anna.tab", "secret"), 200, `"connections":1`, good)
	f("/unsubscribe", mine, 403, `"clientId":"anna.tab"`, bearer(hs(t, "sub", "eve")))
	f("/unsubscribe", mine, 200, `"connections":1`, good)
	f("/subscribe", changeBody("anna.tab", "user:anna"), 200, `"connections":1`, good)
	f("/subscribe", `{"clientId":"anna.tab"}`, 400, "body", good)
	f("/subscribe", `{"clientId":"anna.tab","channel":1}`, 400, "body", good)
	f("/subscribe", "{\"clientId\":\"anna.tab\",\"channel\":\"\xff\"}", 400, "UTF-8", good)
	f("/subscribe", changeBody("a b", "free"), 400, "clientId", good)
	f("/subscribe", changeBody("anna.tab", strings.Repeat("x", 1025)), 400, "channel", good)
	if resp, _ := get(t, "GET", base(b)+"/subscribe"); resp.StatusCode != 405 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	if full, longer := a.stats.liveRefused[liveFull].Load(), a.stats.liveRefused[liveLonger].Load(); full != 1 || longer != 1 {
		t.Errorf("counted: %d are full, %d live longer", full, longer)
	}
	// The nodes that have the streams judge it, too: claims are what another node says.
	for _, claims := range []string{`{}`, `{"sub":"anna","exp":1}`, `{"sub":"anna","channels":["x"],"iss":"` + testIssuer + `","aud":"sluice"}`,
		`{"sub":"eve","channels":[">"],"iss":"` + testIssuer + `","aud":"sluice"}`} {
		var got control.Answers
		until(t, "both answer in time", func() bool {
			var err error
			if got, err = b.asker.Ask(t.Context(), wire.VerbSubscribe, &wire.Change{ClientID: "anna.tab", Subject: "secret", Claims: json.RawMessage(claims)}); err != nil {
				t.Fatal(err)
			}
			return got.Complete && len(got.List) == 2
		})
		for _, answer := range got.List {
			if string(answer.Body) != "{}" {
				t.Errorf("%s: %s does %s", claims, answer.Name, answer.Body)
			}
		}
	}
	// A stream of nobody's, that has got such a clientId by chance, is not hers.
	open(t, a, "/events?channel=free")
	onLoops(a, func(l *loop) {
		l.each(func(s *session) {
			if s.pass == nil {
				l.clients.remove(s)
				s.clientID = "anna.tab"
				l.clients.add(s)
			}
		})
	})
	f("/unsubscribe", changeBody("anna.tab", "free"), 200, `{"success":true,"connections":1}`, good)
	if got := post(t, b, "/refresh", refreshBody("anna.tab", hs(t))); got.body != `{"success":true,"connections":1}`+"\n" {
		t.Errorf("refresh: %+v", got)
	}
}

// listener checks what one client is given while its channels change.
type listener struct {
	id   string // clientId
	node *Node

	mu       sync.Mutex      // guards the following fields
	channels map[string]bool // as it has been told
	next     map[string]int
	floor    map[string]uint64 // its first event must be the first with a higher sequence
	position wire.ID
	got      int
}

// sent knows the sequences of what was published.
type sent struct {
	mu   sync.Mutex
	seqs map[string][]uint64 // by channel and number
}

func (x *sent) publish(u *upstream, channel, pad string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := len(x.seqs[channel])
	x.seqs[channel] = append(x.seqs[channel], u.publish(channel, fmt.Sprintf("%s %d %s", channel, n, pad)))
}

// first is the number of the first event of the channel after a sequence.
func (x *sent) first(channel string, seq uint64) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n, s := range x.seqs[channel] {
		if s > seq {
			return n
		}
	}
	return len(x.seqs[channel])
}

func (x *sent) seq(channel string, n int) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seqs[channel][n]
}

// lacks tells what the client has still to get, "" for nothing. It has all its channels
// once it has the last one.
func (c *listener) lacks(x *sent) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.channels["last"] {
		return c.id + " was not told of the last channel"
	}
	for name, has := range c.channels {
		if all := x.first(name, math.MaxUint64); has && c.next[name] != all {
			return fmt.Sprintf("%s: of %s it has got up to %d of %d", c.id, name, c.next[name], all)
		}
	}
	return ""
}

// take checks one event.
func (c *listener) take(ev sseclient.Event, x *sent) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.position.Seq
	if ev.HasID {
		id, err := wire.ParseID(ev.ID)
		if err != nil || id.Seq < c.position.Seq {
			return fmt.Errorf("position goes back from %d: %+v", c.position.Seq, ev)
		}
		c.position = id
	}
	switch {
	case ev.Name == "subscribed" || ev.Name == "unsubscribed":
		var e changedEvent
		if err := json.Unmarshal([]byte(ev.Data), &e); err != nil {
			return err
		}
		if c.channels[e.Channel] == (ev.Name == "subscribed") {
			return fmt.Errorf("told twice: %+v", ev)
		}
		delete(c.next, e.Channel)
		delete(c.floor, e.Channel)
		c.channels[e.Channel] = ev.Name == "subscribed"
		if ev.HasID && ev.Name == "subscribed" {
			c.floor[e.Channel] = c.position.Seq
		}
	case ev.Name != "":
		return fmt.Errorf("unexpected %+v", ev)
	case ev.HasData:
		f := strings.Fields(ev.Data)
		name := f[0]
		n, err := strconv.Atoi(f[1])
		if err != nil || !c.channels[name] {
			return fmt.Errorf("event of a channel that it has not: %.60q", ev.Data)
		}
		next, known := c.next[name]
		if floor, there := c.floor[name]; there && !known {
			next, known = x.first(name, floor), true
		}
		// What came after the last id may come again, when it was given without one.
		if known && (n > next || n < next && x.seq(name, n) <= before) {
			return fmt.Errorf("%s: got %d, want %d (position %d)", name, n, next, c.position.Seq)
		}
		c.next[name] = n + 1
		c.got++
	}
	return nil
}

// Channels come and go, by requests to any node, while events flow, clients are slow,
// rings are short and topics are begun anew: each client gets of each channel exactly
// what follows the position of its subscribed event.
func TestSubscribeRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	u, a, b := pairOpen(t, func(c *Config) {
		c.SSENode.RingBytes, c.SSENode.Linger = 8<<10, 20*time.Millisecond
	})
	nodes := []*Node{a, b}
	x := &sent{seqs: map[string][]uint64{}}
	names := []string{"fixed"}
	for i := range 6 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	var published atomic.Int64
	wg.Go(func() { // events, as fast as the stream takes them
		rng := rand.New(rand.NewPCG(seed, 1))
		pad := strings.Repeat("x", 600)
		for ctx.Err() == nil {
			x.publish(u, names[rng.IntN(len(names))], pad[:rng.IntN(len(pad))])
			published.Add(1)
		}
	})
	var listeners []*listener
	var streams []*sseclient.Stream
	for i := range 8 {
		c := &listener{
			id: fmt.Sprintf("client%d", i), node: nodes[i%2], channels: map[string]bool{"fixed": true},
			next: map[string]int{}, floor: map[string]uint64{},
		}
		listeners = append(listeners, c)
		streams = append(streams, open(t, c.node, "/events?channel=fixed&clientId="+c.id))
	}
	failed := make(chan error, 2*len(listeners))
	stopped := make(chan struct{})
	var readers sync.WaitGroup
	for i, c := range listeners {
		readers.Go(func() {
			for {
				ev, err := streams[i].Next(t.Context())
				if err != nil {
					select {
					case <-stopped:
					default:
						failed <- fmt.Errorf("%s: %w", c.id, err)
					}
					return
				}
				if err := c.take(ev, x); err != nil {
					failed <- fmt.Errorf("%s: %w", c.id, err)
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	done := 0
	for limit := time.Now().Add(4 * time.Second); time.Now().Before(limit) && len(failed) == 0; done++ {
		c := listeners[rng.IntN(len(listeners))]
		verb := []string{"subscribe", "unsubscribe"}[rng.IntN(2)]
		post(t, nodes[rng.IntN(2)], "/"+verb, changeBody(c.id, names[1+rng.IntN(len(names)-1)]))
		if rng.IntN(3) == 0 {
			c := listeners[rng.IntN(len(listeners))]
			c.node.stall(c.id, true)
		}
		if rng.IntN(4) == 0 {
			for _, c := range listeners {
				c.node.stall(c.id, false)
			}
		}
		if rng.IntN(20) == 0 {
			n := nodes[rng.IntN(2)]
			n.dispatch.call(t.Context(), func() {
				for _, tp := range n.hub.all() {
					if rng.IntN(4) == 0 {
						n.dispatch.relearn([]*topic{tp})
					}
				}
			})
		}
	}
	// All are given what there is in the end.
	for _, c := range listeners {
		c.node.stall(c.id, false)
		until(t, "it takes the last one", func() bool { return post(t, a, "/subscribe", changeBody(c.id, "last")).status == 200 })
	}
	cancel()
	wg.Wait()
	until(t, "all have subscribed", func() bool {
		return len(failed) > 0 || a.sessionsOf("last")+b.sessionsOf("last") == len(listeners)
	})
	for _, name := range append(names, "last") {
		x.publish(u, name, "end")
	}
	lacking := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(lacking)
		}
	})
	until(t, "all have everything", func() bool {
		for _, c := range listeners {
			if lacking = c.lacks(x); lacking != "" {
				return len(failed) > 0
			}
		}
		return behind(a)+behind(b) == 0 || len(failed) > 0
	})
	close(stopped)
	for _, s := range streams {
		s.Close()
	}
	readers.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	events := 0
	for _, c := range listeners {
		events += c.got
	}
	t.Logf("%d changes, %d published, %d given", done, published.Load(), events)
	for _, n := range nodes {
		until(t, "no topic is left", func() bool { topics, _ := n.hub.counts(); return topics == 0 })
	}
}

// stall makes a client's streams as slow as if their sockets took nothing, or no longer.
func (n *Node) stall(clientID string, on bool) {
	onLoops(n, func(l *loop) {
		for _, s := range l.clients.of(clientID) {
			switch {
			case s.closed:
			case on && !s.behind:
				s.fallBehind()
				s.cursor = l.n
			case !on && s.behind:
				s.catchUp()
			}
		}
	})
}

// sessionsOf is how many sessions are clients of a topic.
func (n *Node) sessionsOf(name string) (count int) {
	onLoops(n, func(l *loop) {
		l.each(func(s *session) {
			if s.subTo(name) >= 0 {
				count++
			}
		})
	})
	return count
}

// A stream that is behind keeps what is to be changed until it has caught up, and begins
// there, also when it goes on from the stream and has no position of late; one that
// leaves before keeps nothing.
func TestSubscribeBehind(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.RingBytes, c.SSENode.Linger = 4<<10, 20*time.Millisecond })
	acquainted(t, n)
	other := open(t, n, "/events?channel=y&clientId=other")
	s := open(t, n, "/events?channel=x&clientId=me")
	settle(t, n)
	u.publish("x", "on")
	want(t, s, "", "on")
	u.quiet(true)
	u.publish("y", "before")
	want(t, other, "", "before")
	onLoops(n, func(l *loop) {
		for _, s := range l.clients.of("me") {
			s.unsettle()
		}
	})
	n.stall("me", true)
	changes(t, n, "subscribe", "me", "y", 1)
	if n.sessionsOf("y") != 1 {
		t.Error("it was subscribed while it was behind")
	}
	n.stall("me", false)
	wantChanged(t, s, "subscribed", "me", "y")
	n.stall("me", true)
	big := strings.Repeat("x", 3<<10)
	for i := range 4 {
		u.publish("y", fmt.Sprint(i, big))
		want(t, other, "", fmt.Sprint(i, big))
	}
	n.stall("me", false)
	for i := range 4 {
		want(t, s, "", fmt.Sprint(i, big))
	}
	u.quiet(false)

	n.stall("me", true)
	changes(t, n, "subscribe", "me", "z", 1)
	for i := range mostChanges - 1 {
		changes(t, n, "unsubscribe", "me", fmt.Sprint(i), 1)
	}
	if a := post(t, n, "/unsubscribe", changeBody("me", "x")); a.status != 503 || n.stats.liveRefused[liveBehind].Load() != 1 {
		t.Errorf("one too many: %+v", a)
	}
	s.Close()
	other.Close()
	until(t, "no topic is left", func() bool { topics, _ := n.hub.counts(); return topics == 0 })
}

// What is ordered waits until the loop has everything of before.
func TestOrderWaits(t *testing.T) {
	l, _, _ := newSweep(0)
	l.clients = newClients()
	done := 0
	for _, n := range []uint64{5, 0} {
		l.orders = append(l.orders, &order{n: n, done: func(wire.Changed) { done++ }})
	}
	for l.n = range 5 {
		if l.carryOut(); done != 0 {
			t.Fatalf("carried out at %d", l.n)
		}
	}
	l.n = 5
	if l.carryOut(); done != 2 {
		t.Error("not carried out")
	}
}
