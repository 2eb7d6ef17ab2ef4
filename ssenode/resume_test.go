package ssenode

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/route"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// resume comes back with an id and reads up to the connected event.
func resume(t testing.TB, n *Node, path, id string) *sseclient.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s, err := sseclient.Open(ctx, base(n)+path, sseclient.Options{LastEventID: id})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(s.Close)
	if ev := next(t, s); ev.Name != "connected" {
		t.Fatalf("%s: first event is %+v, want connected", path, ev)
	}
	return s
}

// wants checks that the next unnamed events have these data.
func wants(t testing.TB, s *sseclient.Stream, data ...string) {
	t.Helper()
	for _, d := range data {
		want(t, s, "", d)
	}
}

func idOf(seq uint64) string { return wire.ID{Epoch: "e1", Seq: seq}.String() }

func seqOf(t testing.TB, id string) uint64 {
	t.Helper()
	parsed, err := wire.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Seq
}

// numbers are payloads from a to b.
func numbers(a, b int) (list []string) {
	for i := a; i <= b; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// A client comes back to a node that has the missed events in memory, and to one
// that has never seen its channels; several channels and a pattern, one of them
// quiet, one busy, one unknown to it.
func TestResume(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		here := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		there := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		const path = "/events?channel=quiet&channel=busy&pattern=p:*&channel=p:2"
		s := open(t, here, path)
		settle(t, here)
		u.publish("quiet", "q1")
		u.publish("busy", "b1")
		u.publish("p:1", "p1")
		wants(t, s, "q1", "b1")
		ev := want(t, s, "", "p1")
		id := ev.ID
		if id == "" {
			t.Fatal("no id")
		}
		s.Close()
		var expect []string
		for i := range 700 { // several pages, and more than a chunk
			d := fmt.Sprintf("b%d %s", i, strings.Repeat("x", 500))
			u.publish("busy", d)
			expect = append(expect, d)
			if i%100 == 50 {
				u.publish("p:2", "only once")
				expect = append(expect, "only once")
			}
		}
		u.publish("elsewhere", "not for it")
		for _, n := range []*Node{here, there, there} {
			s := resume(t, n, path, id)
			wants(t, s, expect...)
			seq := u.publish("quiet", "live")
			// Without an id where the channels are new to the node.
			if ev := want(t, s, "", "live"); ev.HasID && ev.ID != idOf(seq) || n == here && !ev.HasID {
				t.Errorf("id %q, want %q", ev.ID, idOf(seq))
			}
			expect = append(expect, "live")
			// The query works like the header, which wins.
			q := open(t, n, path+"&lastEventId="+idOf(seq-1))
			want(t, q, "", "live")
			both := resume(t, n, path+"&lastEventId="+id, idOf(seq))
			last := u.publish("p:9", "last")
			want(t, both, "", "last")
			want(t, s, "", "last")
			want(t, q, "", "last")
			expect = append(expect, "last")
			_ = last
		}
	})
}

// Every id that a client holds is safe: whatever it has not seen is above it.
func TestResumeFromEveryID(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, nil)
	const path = "/events?channel=a&channel=b"
	s := open(t, n, path)
	settle(t, n)
	var ids []string
	for i := range 40 {
		u.publish([]string{"a", "b", "c"}[i%3], fmt.Sprint(i))
		if i%3 != 2 {
			ids = append(ids, want(t, s, "", fmt.Sprint(i)).ID)
		}
	}
	for k, id := range ids {
		s := resume(t, n, path, id)
		at := 0
		for i := range 40 {
			if i%3 == 2 {
				continue
			}
			if at > k {
				want(t, s, "", fmt.Sprint(i))
			}
			at++
		}
		s.Close()
	}
}

// A client that missed more than its channel keeps is told so, and gets the rest.
func TestExpiredHistoryIsTold(t *testing.T) {
	u := newUpstream(t)
	table, err := route.Parse("short history=10/1m; old history=100/1s")
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, u, func(c *Config) { c.Routes = *table })
	first := u.publish("a", "first")
	for i := 1; i <= 1500; i++ {
		u.publish("a", fmt.Sprint(i))
	}
	s := resume(t, n, "/events?channel=a&channel=b", idOf(first))
	if g := wantGap(t, s, gapExpired); fmt.Sprint(g.Channels) != "[a]" || *g.From != idOf(first) {
		t.Errorf("gap %+v from %s", g, *g.From)
	}
	wants(t, s, numbers(501, 1500)...)
	s.Close()
	// A pattern is not told for channels that lost nothing.
	s = resume(t, n, "/events?pattern=*", idOf(first))
	if g := wantGap(t, s, gapExpired); fmt.Sprint(g.Patterns) != "[*]" {
		t.Errorf("gap %+v", g)
	}
	wants(t, s, numbers(501, 1500)...)
	s.Close()
	mark := u.publish("x:0", "0")
	for i := range 1200 {
		u.publish(fmt.Sprintf("x:%d", i%3), fmt.Sprint(i))
	}
	s = resume(t, n, "/events?pattern=x:*", idOf(mark))
	wants(t, s, numbers(0, 1199)...)
	s.Close()
	// A route may keep less than the stream.
	mark = u.publish("short", "0")
	for i := 1; i <= 10; i++ {
		u.publish("short", fmt.Sprint(i))
	}
	s = resume(t, n, "/events?channel=short", idOf(mark))
	wants(t, s, numbers(1, 10)...)
	s.Close()
	u.publish("short", "11")
	s = resume(t, n, "/events?channel=short", idOf(mark))
	wants(t, s, numbers(1, 11)...) // in the node's memory all the same
	other := startNode(t, u, func(c *Config) { c.Routes = *table })
	s = resume(t, other, "/events?channel=short", idOf(mark))
	wantGap(t, s, gapExpired)
	wants(t, s, numbers(2, 11)...)
	// And for a shorter time.
	mark = u.publish("old", "0")
	u.publish("old", "1")
	stored := time.Now()
	until(t, "it is too old", func() bool { return time.Since(stored) > time.Second })
	u.publish("old", "2")
	s = resume(t, other, "/events?channel=old", idOf(mark))
	wantGap(t, s, gapExpired)
	wants(t, s, "2")
}

// Whatever stands in Last-Event-ID, the page gets a stream: a gap, then live.
func TestUnknownIDs(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, nil)
	u.publish("a", "before")
	f := func(id, reason string) {
		t.Helper()
		s := resume(t, n, "/events?channel=a", id)
		g := wantGap(t, s, reason)
		if fmt.Sprint(g.Channels) != "[a]" || g.To == nil {
			t.Errorf("%.40s: gap %+v", id, g)
		}
		u.publish("a", "live")
		want(t, s, "", "live")
	}
	f("garbage", gapUnknownID)
	f("e1-", gapUnknownID)
	f("e1-00", gapUnknownID)
	f("<script>-1", gapUnknownID)
	f(strings.Repeat("9", 10<<10), gapUnknownID)
	f("e1-99999999", gapUnknownID)
	f("e1-18446744073709551615", gapUnknownID)
	f("e0-1", gapRecreated)
	f("other-99999999", gapRecreated)
	// Not from the last pulse on, but from what the stream has.
	u.quiet(true)
	seq := u.publish("a", "newer than the last pulse")
	if n.dispatch.head.Load() >= seq {
		t.Fatal("a pulse came")
	}
	s := resume(t, n, "/events?channel=a", idOf(seq))
	u.quiet(false)
	u.publish("a", "next")
	want(t, s, "", "next")
}

// While the link to Redis was down events were lost: clients hear of it in its
// place, those that were away, too.
func TestUpstreamGaps(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&pattern=b:*")
	settle(t, n)
	u.publish("a", "1")
	id := want(t, s, "", "1").ID
	tell := func(subjects ...string) {
		u.store(wire.GapToken, wire.Mark{Epoch: "e1", Term: 1, Reason: wire.GapUpstream, Time: time.Now(), Subjects: subjects}.Encode())
	}
	tell()
	u.publish("a", "2")
	tell("a")
	tell("z")
	tell("b.7")
	u.publish("b:1", "3")
	check := func(s *sseclient.Stream) {
		t.Helper()
		if g := wantGap(t, s, gapUpstream); fmt.Sprint(g.Channels, g.Patterns) != "[a] [b:*]" {
			t.Errorf("gap %+v", g)
		}
		want(t, s, "", "2")
		if g := wantGap(t, s, gapUpstream); fmt.Sprint(g.Channels, g.Patterns) != "[a] []" {
			t.Errorf("gap %+v", g)
		}
		if g := wantGap(t, s, gapUpstream); fmt.Sprint(g.Channels, g.Patterns) != "[] [b:*]" {
			t.Errorf("gap %+v", g)
		}
		want(t, s, "", "3")
	}
	check(s)
	check(resume(t, n, "/events?channel=a&pattern=b:*", id))
	other := startNode(t, u, nil) // that has not heard them
	check(resume(t, other, "/events?channel=a&pattern=b:*", id))
	fresh := open(t, other, "/events?channel=a")
	u.publish("a", "4")
	want(t, fresh, "", "4") // what was before it came is not its business
}

// lose stores a message without the server sending it on, as a server does that
// dies between the two.
func (u *upstream) lose(name, payload string) uint64 {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.republish(false)
	defer u.republish(true)
	sub := subject(u.t, name)
	seq := u.put(sub, []byte(payload))
	u.digest.Add(sub, seq)
	return seq
}

// known tells whether the places of all topics are.
func known(n *Node) bool {
	n.hub.mu.RLock()
	defer n.hub.mu.RUnlock()
	for _, t := range n.hub.topics {
		t.mu.Lock()
		is := t.ring.known != 0
		t.mu.Unlock()
		if !is {
			return false
		}
	}
	return true
}

func (u *upstream) republish(on bool) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s, err := u.js.Stream(ctx, u.names.Name)
	if err != nil {
		u.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.RePublish = nil
	if on {
		cfg.RePublish = &jetstream.RePublish{Source: u.names.Log() + ">", Destination: u.names.Live() + ">"}
	}
	if _, err := u.js.UpdateStream(ctx, cfg); err != nil {
		u.t.Fatal(err)
	}
}

// Messages that were stored and never sent on reach connected clients all the
// same: the next pulse tells of them. Ids stay safe.
func TestLostTail(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, nil)
	const path = "/events?channel=a&channel=b&pattern=c:*"
	s := open(t, n, path)
	settle(t, n)
	u.publish("a", "1")
	want(t, s, "", "1")
	// One pulse is enough, and the second vouches for ids again.
	u.quiet(true)
	u.lose("a", "lost 1")
	u.lose("c:1", "lost 2")
	u.pulseOnce()
	wants(t, s, "lost 1", "lost 2")
	until(t, "the channels are known again", func() bool { return n.stats.relearned.Load() == 2 && known(n) })
	u.pulseOnce()
	settle(t, n)
	// With the next message on the channel the chain shows it, before any pulse.
	u.quiet(true)
	u.lose("a", "lost 3")
	u.publish("a", "after")
	wants(t, s, "lost 3", "after")
	u.quiet(false)
	// One that comes after a later event has no id, and that event's id has been
	// given; whoever comes back with it is told by the marked pulse, see below.
	settle(t, n)
	u.quiet(true)
	u.lose("a", "late")
	u.publish("b", "later")
	later := want(t, s, "", "later")
	u.quiet(false)
	if ev := want(t, s, "", "late"); ev.ID != "" || later.ID == "" {
		t.Errorf("ids %q of the later and %q of the late one", later.ID, ev.ID)
	}
	settle(t, n)
	seq := u.publish("b", "on")
	if ev := want(t, s, "", "on"); ev.ID != idOf(seq) {
		t.Errorf("id %q, want %q", ev.ID, idOf(seq))
	}
	if r := n.stats.relearned.Load(); r != 4 { // twice by a pulse, once by the chain, and c:*
		t.Errorf("%d channels begun anew, want 4", r)
	}
}

// After trouble the bridge writes a marked pulse. An id from between it and the
// last certain pulse may vouch for what never came: the client is told, and gets
// everything after that pulse.
func TestIDsBeforeAMarkedPulse(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&channel=b")
	settle(t, n)
	u.quiet(true)
	u.mu.Lock()
	since := u.put(wire.PulseToken, u.newPulse().Encode())
	u.mu.Unlock()
	u.publish("a", "1")
	safe := want(t, s, "", "1").ID
	u.lose("a", "lost")
	u.publish("b", "2")
	id := want(t, s, "", "2").ID
	u.mu.Lock()
	u.digest.Reset() // the bridge does not know any more
	p := u.newPulse()
	p.Marked, p.Since = true, since
	u.put(wire.PulseToken, p.Encode())
	u.mu.Unlock()
	want(t, s, "", "lost")
	u.quiet(false)
	settle(t, n)
	u.publish("b", "3")
	want(t, s, "", "3")
	other := startNode(t, u, nil)
	for _, n := range []*Node{n, other} {
		for _, id := range []string{id, safe} {
			s := resume(t, n, "/events?channel=a&channel=b", id)
			if g := wantGap(t, s, gapUpstream); *g.From != id {
				t.Errorf("gap from %s, want %s", *g.From, id)
			}
			wants(t, s, "1", "lost", "2", "3")
		}
		s := resume(t, n, "/events?channel=a&channel=b", idOf(since))
		wants(t, s, "1", "lost", "2", "3")
	}
}

// A client of quiet channels gets a position all the same, and a moving one: it
// does not fall out of a history that others fill.
func TestCursorHeartbeats(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine; c.SSENode.Heartbeat = 500 * time.Millisecond })
		s := open(t, n, "/events?channel=quiet")
		seen := map[string]bool{}
		for len(seen) < 3 {
			ev, err := s.NextWithin(wait)
			if err != nil {
				t.Fatal(err)
			}
			if ev.HasData {
				t.Fatalf("an event: %+v", ev)
			}
			if ev.HasID {
				if seen[ev.ID] {
					t.Errorf("id %s again", ev.ID)
				}
				seen[ev.ID] = true
			}
		}
		id := s.LastEventID()
		s.Close()
		u.publish("quiet", "missed")
		want(t, resume(t, n, "/events?channel=quiet", id), "", "missed")
	})
}

// A heartbeat never moves a position back.
func TestHeartbeatsKeepThePosition(t *testing.T) {
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Heartbeat = 250 * time.Millisecond })
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	u.quiet(true)
	seq := u.publish("a", "1")
	want(t, s, "", "1")
	for beats := 0; beats < 3; {
		ev, err := s.NextWithin(wait)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Comment == "heartbeat" {
			beats++
		}
		if s.LastEventID() != idOf(seq) {
			t.Fatalf("position %s after %s", s.LastEventID(), idOf(seq))
		}
	}
	u.quiet(false)
}
