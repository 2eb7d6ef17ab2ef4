package ssenode

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/shared/route"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

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
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		here := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.Linger = engine, time.Minute // or it would forget on a slow machine
		})
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

// A gap names channels as the client does, whatever is in their names.
func TestGapNames(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	for _, name := range []string{"user:1", "a b,c;d=ø", "x.y*%", ""} {
		s := open(t, n, "/events?channel="+url.QueryEscape(name))
		settle(t, n)
		u.store(wire.GapToken, wire.Mark{Epoch: "e1", Term: 1, Reason: wire.GapUpstream, Time: time.Now()}.Encode())
		if g := wantGap(t, s, gapUpstream); len(g.Channels) != 1 || g.Channels[0] != name {
			t.Errorf("gap of %q names %q", name, g.Channels)
		}
		s.Close()
	}
}

// While the link to Redis was down events were lost: clients hear of it in its
// place, those that were away, too.
func TestUpstreamGaps(t *testing.T) {
	t.Parallel()
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
