package ssenode

import (
	"fmt"
	"strings"
	"testing"

	"sluice/shared/wire"
)

// NATS goes away and comes back without its stream: the clients stay
// connected, events come again, and ids are of the new epoch.
func TestNATSRestart(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		s := open(t, n, "/events?channel=a&pattern=b:*")
		settle(t, n)
		u.publish("a", "before")
		if ev := want(t, s, "", "before"); !strings.HasPrefix(ev.ID, "e1-") {
			t.Errorf("id %q", ev.ID)
		}
		u.stop()
		until(t, "the node notices", func() bool { return n.ready() != nil })
		// Who connects meanwhile gets the head and waits like the others.
		late := open(t, n, "/events?channel=a")
		u.restart(n)
		u.pulse("e2")
		until(t, "the node knows the new epoch", func() bool { return *n.epoch.Load() == "e2" })
		settle(t, n)
		seq := u.publish("a", "after")
		u.publish("b:c", "after")
		wantGap(t, s, "stream-recreated")
		wantGap(t, late, "stream-recreated")
		id := wire.ID{Epoch: "e2", Seq: seq}.String()
		if ev := want(t, s, "", "after"); ev.ID != id {
			t.Errorf("id %q, want %q", ev.ID, id)
		}
		want(t, s, "", "after")
		want(t, late, "", "after")
		if n.stats.open() != 2 {
			t.Errorf("%d streams are open, want 2", n.stats.open())
		}
	})
}

// A node may start before NATS, and before there is a stream.
func TestStartsBeforeItsUpstream(t *testing.T) {
	u := newUpstream(t)
	u.stop()
	n := startNodeUnready(t, u, nil)
	if err := n.ready(); err == nil {
		t.Error("ready without NATS")
	}
	s := open(t, n, "/events?channel=a")
	u.restart(n)
	if err := n.ready(); err == nil {
		t.Error("ready without a pulse")
	}
	u.pulse("e9")
	until(t, "ready", func() bool { return n.ready() == nil })
	settle(t, n)
	seq := u.publish("a", "hello")
	if ev := want(t, s, "", "hello"); ev.ID != fmt.Sprintf("e9-%d", seq) {
		t.Errorf("id %q", ev.ID)
	}
}
