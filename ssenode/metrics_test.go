package ssenode

import "testing"

// What comes for the channels of clients is counted apart from what comes to every
// node: a node that nobody listens on gets pulses alone.
func TestMessagesByKind(t *testing.T) {
	u := newUpstream(t)
	a, b := startNode(t, u, nil), startNode(t, u, nil)
	s := open(t, a, "/events?channel=x")
	settle(t, a)
	events, others := a.stats.messages.Load(), b.stats.messages.Load()
	u.publish("x", "1")
	u.publish("x", "2")
	u.publish("y", "no")
	wants(t, s, "1", "2")
	pulses := b.stats.system.Load()
	until(t, "both have heard of it by a pulse", func() bool { return b.stats.system.Load() > pulses+1 })
	until(t, "it is counted", func() bool { return a.stats.messages.Load() >= events+2 })
	if got := a.stats.messages.Load() - events; got != 2 {
		t.Errorf("%d messages", got)
	}
	if got := b.stats.messages.Load() - others; got != 0 {
		t.Errorf("%d messages of nobody's channel", got)
	}
}
