package ssenode

import (
	"fmt"
	"testing"

	"sluice/shared/route"
	"sluice/shared/sseclient"
)

// initial=<n> of the route or the query: the last events at once, without ids,
// then the position, then live.
func TestInitial(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	table, err := route.Parse("bills initial=1; board:* initial=2 history=3/1m")
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, u, func(c *Config) { c.Routes = *table })
	for i := range 5 {
		u.publish("bills", fmt.Sprint("bill ", i))
		u.publish("board:1", fmt.Sprint("board ", i))
		u.publish("other", fmt.Sprint("other ", i))
	}
	check := func(path string, data ...string) *sseclient.Stream {
		t.Helper()
		s := open(t, n, path)
		for _, d := range data {
			if ev := want(t, s, "", d); ev.HasID {
				t.Errorf("%s: %s has the id %s", path, d, ev.ID)
			}
		}
		for s.LastEventID() == "" {
			if _, err := s.NextWithin(wait); err != nil {
				t.Fatal(err)
			}
		}
		u.publish("bills", "live")
		u.publish("board:1", "live")
		u.publish("other", "live")
		want(t, s, "", "live")
		return s
	}
	check("/events?channel=bills", "bill 4")
	check("/events?channel=bills", "live")
	check("/events?channel=bills&initial=0")
	check("/events?channel=bills&initial=3", "live", "live", "live")
	check("/events?channel=board:1", "live", "live")
	check("/events?channel=board:1&initial=100", "live", "live", "live")
	check("/events?channel=other")
	check("/events?channel=bills&channel=other&initial=2", "live", "live", "live", "live")
	u.publish("x:1", "x1")
	u.publish("x:2", "x2")
	u.publish("x:1", "x1 again")
	s := open(t, n, "/events?pattern=x:*&initial=5")
	wants(t, s, "x2", "x1 again")
	// A client that comes back gets what it missed, not what is initial.
	s = check("/events?channel=bills", "live")
	id := s.LastEventID()
	s.Close()
	u.publish("bills", "missed")
	s = resume(t, n, "/events?channel=bills", id)
	want(t, s, "", "missed")
	other := startNode(t, u, func(c *Config) { c.Routes = *table })
	s = open(t, other, "/events?channel=bills")
	want(t, s, "", "missed")
	// An id that says nothing does not keep the present state from the page.
	s = resume(t, other, "/events?channel=bills", "garbage")
	wantGap(t, s, gapUnknownID)
	want(t, s, "", "missed")
}
