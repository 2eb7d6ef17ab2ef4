package ssenode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// A message was stored and did not come to a node, and a client has left that node with
// the id of a later one. Wherever it is when that is found out, and wherever it comes to
// later, it is told and gets the message; who came without an id is told nothing.
func TestDoubt(t *testing.T) {
	t.Parallel()
	const path = "/events?channel=a&channel=b"
	nothing := func(*upstream) {}
	for name, x := range map[string]struct{ lost, find func(u *upstream) }{
		"by the next pulse": {nothing, nothing},
		// The message and the pulse after it: everything is compared with the stream then.
		"by the pulse after": {func(u *upstream) { u.losePulse() }, nothing},
		// Before any pulse the chain shows it; then the pulse has nothing to tell.
		"by the chain": {nothing, func(u *upstream) { u.publish("a", "after") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			first, second := startNode(t, u, nil), startNode(t, u, nil)
			stays := open(t, first, path)
			settle(t, first)
			safe := u.publish("b", "safe")
			want(t, stays, "", "safe")
			until(t, "a pulse comes after it", func() bool { return first.dispatch.head.Load() > safe })
			u.quiet(true)
			u.lose("a", "lost")
			x.lost(u)
			u.publish("b", "later")
			id := want(t, stays, "", "later").ID
			if id == "" {
				t.Fatal("the later one has no id: the test has not tested it")
			}
			// The second node begins its channels only now: it lacks nothing.
			fresh := open(t, second, path)
			until(t, "the channels are known", func() bool { return known(second) })
			early := []*sseclient.Stream{resume(t, first, path, id), resume(t, second, path, id)}
			poll := joinNow(t, second, "channel=a&channel=b", id).adopt()
			x.find(u)
			u.quiet(false)
			whole := []string{"lost", "later"}
			if name == "by the chain" {
				whole = append(whole, "after")
			}
			check := func(s *sseclient.Stream) {
				t.Helper()
				g := wantGap(t, s, gapUpstream)
				if g.From == nil || *g.From != id || fmt.Sprint(g.Channels) != "[a b]" {
					t.Errorf("gap %+v", g)
				}
				wants(t, s, whole...)
			}
			want(t, stays, "", "lost")
			for _, s := range early {
				if name == "by the chain" {
					// It comes as to everybody before the pulse tells, or not any more.
					for next(t, s).Name != "gap" {
					}
					wants(t, s, whole...)
				} else {
					check(s)
				}
			}
			a := poll.answer()
			if a.Gap == nil && len(a.Events) > 0 { // the one of after the chain's hole
				a = joinNow(t, second, "channel=a&channel=b", id).adopt().answer()
			}
			if a.Gap == nil || a.Gap.Reason != gapUpstream || len(a.Events) != len(whole) || a.Events[0].Data != "lost" {
				t.Errorf("a poll got %v, gap %+v", texts(a), a.Gap)
			}
			for _, n := range []*Node{first, second} {
				check(resume(t, n, path, id))
			}
			// A node that begins later is told, too.
			third := startNode(t, u, nil)
			until(t, "the third node hears of it", func() bool { return len(*third.dispatch.marks.Load()) > 0 })
			check(resume(t, third, path, id))
			wants(t, resume(t, third, path, idOf(safe)), whole...)
			u.publish("a", "on")
			if name == "by the chain" {
				want(t, fresh, "", "after")
			}
			want(t, fresh, "", "on")
			for _, s := range early {
				want(t, s, "", "on")
			}
		})
	}
}

// losePulse stores a pulse that is not sent on.
func (u *upstream) losePulse() {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.republish(false)
	defer u.republish(true)
	u.put(wire.PulseToken, u.newPulse().Encode())
}

// Of doubts that overlap the one counts that goes back furthest, whatever their order.
func TestDoubtsOverlap(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	open(t, n, "/events?channel=a")
	settle(t, n)
	var at []uint64
	for i := range 7 {
		at = append(at, u.publish("a", fmt.Sprint(i)))
	}
	until(t, "a pulse comes after them", func() bool { return n.dispatch.head.Load() > at[6] })
	before, after := resume(t, n, "/events?channel=a", idOf(at[3])), []string{"2", "3", "4", "5", "6"}
	wants(t, before, "4", "5", "6")
	for _, x := range []wire.Doubt{{Since: at[2], Seq: at[4]}, {Since: at[1], Seq: at[5]}, {Since: at[2], Seq: at[6]}} {
		x.Epoch = n.dispatch.epochNow()
		if err := n.tellDoubt(x); err != nil {
			t.Fatal(err)
		}
	}
	wantGap(t, before, gapUpstream)
	for ev := next(t, before); ev.Data != "2"; { // at once, or after it went back less far
		ev = next(t, before)
	}
	wants(t, before, after[1:]...)
	until(t, "all are known", func() bool { return len(*n.dispatch.marks.Load()) == 3 })
	later := resume(t, n, "/events?channel=a", idOf(at[3]))
	wantGap(t, later, gapUpstream)
	wants(t, later, after...)
}

// What is no doubt, or of another epoch, is refused or passed over.
func TestNoDoubt(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	until(t, "the stream is known", func() bool { return n.dispatch.head.Load() > 9 })
	for _, x := range []wire.Doubt{{}, {Epoch: "x"}, {Epoch: "x", Since: 5, Seq: 5}, {Epoch: "x", Since: 5, Seq: 4}} {
		body, err := wire.EncodeControl(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.askedToDoubt(body, func(any) { t.Errorf("%+v is taken", x) }); err == nil {
			t.Errorf("%+v is not refused", x)
		}
	}
	for _, x := range []wire.Doubt{
		{Epoch: "another", Since: 1, Seq: 8}, {Epoch: n.dispatch.epochNow(), Since: 1, Seq: 1 << 60}, {Epoch: n.dispatch.epochNow(), Since: 1, Seq: 9},
	} {
		if err := n.tellDoubt(x); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it is known", func() bool { return len(*n.dispatch.marks.Load()) > 0 })
	if list := *n.dispatch.marks.Load(); len(list) != 1 || list[0].since != 1 || list[0].seq != 9 {
		t.Errorf("%d marks", len(list))
	}
}

// A node that begins, while pulses come, doubts nothing: it has given no ids, and what
// pulses came while it looked at the stream are not lost.
func TestStartDoubtsNothing(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := startNode(t, u, nil)
	s := open(t, first, "/events?channel=a")
	settle(t, first)
	for i := range 10 {
		began := time.Now()
		n := startNode(t, u, nil)
		open(t, n, "/events?channel=a")
		u.publish("a", fmt.Sprint(i))
		want(t, s, "", fmt.Sprint(i))
		head := first.dispatch.head.Load()
		until(t, "pulses come", func() bool { return n.dispatch.head.Load() > head+3 })
		checks := n.stats.checks.Load()
		if slow := time.Since(began) > time.Second; n.stats.doubts.Load() != 0 || checks != 1 && !slow {
			t.Errorf("%d doubts, %d comparisons with the stream", n.stats.doubts.Load(), checks)
		}
	}
	if list := *first.dispatch.marks.Load(); len(list) > 0 {
		t.Errorf("told of %d doubts", len(list))
	}
}

// A channel that a client has just begun gives no ids yet: what is missing of it casts no
// doubt on those of other channels.
func TestNewChannelsAreNotDoubted(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=b")
	settle(t, n)
	u.quiet(true)
	open(t, n, "/events?channel=a")
	until(t, "the channel is known", func() bool { return known(n) })
	u.lose("a", "lost")
	u.publish("b", "later")
	if want(t, s, "", "later").ID == "" {
		t.Fatal("the later one has no id: the test has not tested it")
	}
	before := n.stats.relearned.Load()
	u.publish("a", "after")
	until(t, "the chain shows it", func() bool { return n.stats.relearned.Load() > before })
	u.lose("a", "lost, too")
	head := n.dispatch.head.Load()
	u.quiet(false)
	until(t, "pulses come", func() bool { return n.dispatch.head.Load() > head+3 })
	if d := n.stats.doubts.Load(); d != 0 {
		t.Errorf("%d doubts", d)
	}
}

// A poll that was sent back gets all of what is doubted in one answer, however long: with
// an id of the middle of it the next one would be sent back again, for ever.
func TestDoubtedPollsGetOn(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	since := u.publish("a", "before")
	want(t, s, "", "before")
	const count = 30
	big := strings.Repeat("x", 100<<10) // three times what an answer has room for
	var last uint64
	for range count {
		last = u.publish("a", big)
		want(t, s, "", big)
	}
	until(t, "a pulse comes after them", func() bool { return n.dispatch.head.Load() > last })
	if err := n.tellDoubt(wire.Doubt{Epoch: n.dispatch.epochNow(), Since: since, Seq: last + 1}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is known", func() bool { return len(*n.dispatch.marks.Load()) > 0 })
	a := joinNow(t, n, "channel=a", idOf(last-1)).adopt().answer()
	if a.Gap == nil || len(a.Events) != count {
		t.Errorf("%d events, gap %+v", len(a.Events), a.Gap)
	}
	u.publish("a", "on")
	if a = joinNow(t, n, "channel=a", a.LastEventID).adopt().answer(); a.Gap != nil || len(a.Events) != 1 || a.Events[0].Data != "on" {
		t.Errorf("then %d events, gap %+v", len(a.Events), a.Gap)
	}
}
