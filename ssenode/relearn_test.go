package ssenode

import (
	"testing"
	"time"
)

// Who comes while ids are withheld gets none, although its channels were settled
// before.
func TestComesWhileIDsAreWithheld(t *testing.T) {
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
