package ssenode

import (
	"fmt"
	"testing"
	"time"

	"sluice/shared/channel"
)

// joinMany makes a session that is a client of many topics, and of no loop.
func joinMany(t *testing.T, n *Node, count int) *session {
	t.Helper()
	r := &request{}
	for i := range count {
		p, err := channel.Exact(fmt.Sprint("c", i))
		if err != nil {
			t.Fatal(err)
		}
		r.want = append(r.want, p)
	}
	s, _, err := n.join(r, newCollector(false))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Many topics are let go of in parts, and unsubscribed without the hub's lock: who
// comes in between has a subscription of its own, and gets nothing twice.
func TestSweepInParts(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Linger = time.Minute })
	before := n.nc.NumSubscriptions()
	n.hub.leave(joinMany(t, n, sweepAtMost+1))
	later := time.Now().Add(time.Hour)
	gone := n.hub.swept(later)
	if left, _ := n.hub.counts(); len(gone) != sweepAtMost || left != 1 {
		t.Fatalf("%d were let go of, %d are left", len(gone), left)
	}
	s := open(t, n, "/events?channel=c0")
	settle(t, n)
	u.publish("c0", "1")
	want(t, s, "", "1")
	for _, tp := range gone {
		if err := tp.sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
	u.publish("c0", "2")
	want(t, s, "", "2")
	if n := n.stats.dropped[duplicate].Load(); n != 0 {
		t.Errorf("%d came twice", n)
	}
	n.hub.sweep(later)
	if left := n.nc.NumSubscriptions() - before; left != 1 {
		t.Errorf("%d subscriptions are left, want one", left)
	}
}
