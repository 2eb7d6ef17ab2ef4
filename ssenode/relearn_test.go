package ssenode

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// Who comes while ids are withheld gets none, although its channels were settled
// before.
func TestComesWhileIDsAreWithheld(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Loops = 1 })
	open(t, n, "/events?channel=a")
	settle(t, n)
	l := n.loops[0]
	l.ask(func() { l.withhold(true) })
	j := joinNow(t, n, "channel=a", "").adopt()
	unsettled := make(chan bool)
	l.ask(func() { unsettled <- j.session.unsettled })
	if !<-unsettled {
		t.Error("it is settled")
	}
	l.ask(func() { l.withhold(false) })
	j.answer() // after the next pulse
}

// Messages go on while all channels are begun anew, as they do when another bridge
// takes over. Clients get them from memory: the stream is asked where the channels
// stand, and not for what came live. Of a channel that has missed something it is.
func TestBegunAnewInTheFlow(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&channel=b&channel=holed")
	settle(t, n)
	for _, name := range []string{"a", "b", "holed"} {
		u.publish(name, "before")
	}
	wants(t, s, "before", "before", "before")
	flow := func(lost func()) (asked uint64) {
		settle(t, n)
		u.quiet(true)
		learn := beginAnew(t, n, "a", "b", "holed")
		u.publish("b", "1")
		u.publish("a", "2")
		lost()
		u.publish("holed", "4")
		last := u.publish("b", "5")
		d := n.dispatch
		until(t, "all has come", func() (is bool) {
			d.call(t.Context(), func() {
				e := d.hub.topics["b"].chain.early
				is = e != nil && sequence(e.list[len(e.list)-1]) == last
			})
			return is
		})
		before := n.history.asked.Load()
		learn()
		until(t, "the channels are known again", func() bool { return known(n) })
		defer u.quiet(false)
		for _, text := range []string{"1", "2"} {
			want(t, s, "", text)
		}
		asked = n.history.asked.Load() - before
		return asked
	}
	if asked := flow(func() {}); asked > 1 {
		t.Errorf("the stream was asked %d times", asked)
	}
	wants(t, s, "4", "5")
	u.publish("a", "after")
	if ev := want(t, s, "", "after"); ev.ID == "" {
		settle(t, n)
	}
	flow(func() { u.lose("holed", "3") })
	wants(t, s, "3", "4", "5")
	// The stream is ahead of what has come: by what will never come.
	settle(t, n)
	u.quiet(true)
	learn := beginAnew(t, n, "a", "b", "holed")
	u.publish("b", "7")
	u.lose("b", "8")
	u.quiet(false) // pulses vouch for it, and are kept
	before := time.Now()
	until(t, "a pulse has come", func() (is bool) {
		n.dispatch.call(t.Context(), func() { is = len(n.dispatch.pulses) > 0 })
		return is
	})
	learn()
	wants(t, s, "7", "8")
	if took := time.Since(before); took > wait/2 {
		t.Errorf("took %s", took)
	}
	u.publish("a", "last")
	want(t, s, "", "last")
}

// A client replays because something of one channel was missed, and only then something
// of its others is found missing that is older than what it was given before.
func TestMissedWhileReplaying(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&channel=b&pattern=c:*")
	settle(t, n)
	u.quiet(true)
	u.publish("c:1", "1")
	u.lose("b", "lost 1")
	u.lose("c:2", "lost 2")
	u.publish("c:1", "2")
	u.publish("a", "on")
	wants(t, s, "1", "2", "on")
	learn := beginAnew(t, n, "a")
	u.publish("c:1", "3") // will be given by its number
	d := n.dispatch
	until(t, "the node has it", func() (is bool) {
		d.call(t.Context(), func() { is = d.hub.topics["c.*"].chain.tails["c.1"] > d.hub.topics["a"].ring.at(0).seq })
		return is
	})
	d.call(t.Context(), func() { d.relearn([]*topic{d.hub.topics["b"], d.hub.topics["c.*"]}) })
	learn()
	wants(t, s, "lost 1", "lost 2", "3")
	u.publish("a", "after")
	want(t, s, "", "after")
}

// What a replay has given of a topic that is begun anew once more.
func TestBegunAnewOnceMore(t *testing.T) {
	tails := map[string]uint64{"x": 48, "y": 55}
	given := func(subject string, upTo uint64) progress {
		x := progress{at: 45}
		x.has(map[string]uint64{subject: upTo}, math.MaxUint64)
		return x
	}
	f := func(x progress, r relearnt, replayed uint64, want string) {
		t.Helper()
		const cursor = 9
		x.again(&r, replayed, cursor)
		got := fmt.Sprint(x.at)
		for _, subject := range []string{"x", "y", "z"} {
			seq := uint64(0)
			for x.had(&frame{subject: subject, seq: seq + 1}) {
				seq++
			}
			got += fmt.Sprint(" ", seq)
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	literal := &topic{literal: true}
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44}, 0, "44 0 0 0")
	f(progress{at: 50}, relearnt{topic: literal, upTo: 60}, 0, "50 0 0 0")
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44}, 47, "47 0 0 0")
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44}, 60, "50 0 0 0") // 51 to 60 are not written yet
	pattern := &topic{}
	f(progress{at: 50}, relearnt{topic: pattern, upTo: 40, tails: tails}, 0, "40 48 50 0")
	f(given("x", 47), relearnt{topic: pattern, upTo: 40, tails: tails}, 0, "40 47 45 0")
	f(given("z", 42), relearnt{topic: pattern, upTo: 40, tails: tails}, 0, "40 45 45 42")
	// Something low came after the cursor, or before it.
	late := func(n, seq uint64) []*frame { return []*frame{{n: n, seq: seq, subject: "x"}} }
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44, late: late(9, 41)}, 0, "44 0 0 0")
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44, late: late(10, 41)}, 0, "40 0 0 0")
	f(progress{at: 50}, relearnt{topic: literal, upTo: 44, late: late(10, 41)}, 43, "43 0 0 0")
	f(progress{at: 50}, relearnt{topic: pattern, upTo: 40, tails: tails, late: late(9, 43)}, 0, "40 48 50 0")
	f(progress{at: 50}, relearnt{topic: pattern, upTo: 40, tails: tails, late: late(10, 43)}, 0, "40 42 50 0")
	if tails["x"] != 48 || tails["y"] != 55 {
		t.Error("what all clients share was changed")
	}
}

// What was given is kept in few parts however often a topic is begun anew.
func TestGivenIsJoined(t *testing.T) {
	x := progress{}
	for i := range uint64(100) {
		x.has(map[string]uint64{fmt.Sprint(i % 10): i}, i-i%2)
	}
	if len(x.given) > maxGiven {
		t.Errorf("%d parts", len(x.given))
	}
	for i := range uint64(10) {
		last := 90 + i - i%2
		if subject := fmt.Sprint(i); !x.had(&frame{subject: subject, seq: last}) || x.had(&frame{subject: subject, seq: last + 1}) {
			t.Errorf("%d is not the last given of %d", last, i)
		}
	}
}
