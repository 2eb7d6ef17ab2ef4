package ssenode

import (
	"fmt"
	"testing"

	"sluice/shared/route"
)

// throttle=: the first at once, then at most one in the time, the latest.
func TestThrottle(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		table, err := route.Parse("board:* throttle=400ms; live:* throttle=400ms history=off")
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, u, func(c *Config) { c.Routes = *table; c.SSENode.Engine = engine })
		s := open(t, n, "/events?channel=board:1")
		mixed := open(t, n, "/events?channel=board:1&channel=chat")
		wild := open(t, n, "/events?pattern=board:*")
		settle(t, n)
		first := u.publish("board:1", "1")
		for i := 2; i <= 20; i++ {
			u.publish("board:1", fmt.Sprint(i))
		}
		u.publish("board:2", "of another channel")
		chat := u.publish("chat", "hello")
		if ev := want(t, s, "", "1"); ev.ID != idOf(first) {
			t.Errorf("id %s", ev.ID)
		}
		want(t, mixed, "", "1")
		// While an older event is owed nothing newer carries an id.
		if ev := want(t, mixed, "", "hello"); ev.HasID {
			t.Errorf("id %s of %d while an event is held back", ev.ID, chat)
		}
		wants(t, wild, "1", "of another channel", "20")
		ev := want(t, s, "", "20")
		if ev.ID != idOf(first+19) {
			t.Errorf("id %s, want %s", ev.ID, idOf(first+19))
		}
		if ev := want(t, mixed, "", "20"); ev.ID != idOf(first+19) {
			t.Errorf("id %s, want %s", ev.ID, idOf(first+19))
		}
		// Throttled, then gone: what was held back comes when it returns.
		u.publish("board:1", "21")
		u.publish("board:1", "22")
		s.Close()
		u.publish("board:1", "23")
		want(t, resume(t, n, "/events?channel=board:1", ev.ID), "", "23")
		other := startNode(t, u, func(c *Config) { c.Routes = *table; c.SSENode.Engine = engine })
		back := resume(t, other, "/events?channel=board:1", ev.ID)
		want(t, back, "", "23")
		u.publish("board:1", "24")
		want(t, back, "", "24")

		l := open(t, n, "/events?channel=live:1")
		for i := range 5 {
			u.live("live:1", fmt.Sprint(i))
		}
		wants(t, l, "0", "4")
	})
}
