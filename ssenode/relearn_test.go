package ssenode

import (
	"fmt"
	"testing"
)

// A client replays because something of one channel was missed, and only then something
// of its others is found missing that is older than what it was given before.
func TestMissedWhileReplaying(t *testing.T) {
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

// What a replay has given of a pattern that is begun anew once more.
func TestBegunAnewOnceMore(t *testing.T) {
	f := func(x progress, r relearnt, replayed uint64, want string) {
		t.Helper()
		x.again(&r, replayed)
		if got := fmt.Sprint(x.at, x.given); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	tails := map[string]uint64{"x": 48, "y": 55}
	f(progress{at: 50}, relearnt{upTo: 44}, 0, "44 map[]")
	f(progress{at: 50}, relearnt{upTo: 60}, 0, "50 map[]")
	f(progress{at: 50}, relearnt{upTo: 44}, 47, "47 map[]")
	f(progress{at: 50}, relearnt{upTo: 40, tails: tails}, 0, "40 map[x:48 y:50]")
	f(progress{at: 45, given: map[string]uint64{"x": 47, "z": 42}}, relearnt{upTo: 40, tails: tails}, 0, "40 map[x:47 y:45 z:42]")
	if tails["y"] != 55 {
		t.Error("what all clients share was changed")
	}
}
