package ssenode

import (
	"testing"
	"time"
)

// A client of quiet channels gets a position all the same, and a moving one: it
// does not fall out of a history that others fill.
func TestCursorHeartbeats(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine; c.SSENode.Heartbeat = 500 * time.Millisecond })
		s := open(t, n, "/events?channel=quiet")
		seen := map[string]bool{}
		for len(seen) < 3 {
			ev, err := s.NextWithin(wait)
			if err != nil {
				t.Fatal(err)
			}
			if ev.HasData {
				t.Fatalf("an event: %+v", ev)
			}
			if ev.HasID {
				if seen[ev.ID] {
					t.Errorf("id %s again", ev.ID)
				}
				seen[ev.ID] = true
			}
		}
		id := s.LastEventID()
		s.Close()
		u.publish("quiet", "missed")
		want(t, resume(t, n, "/events?channel=quiet", id), "", "missed")
	})
}

// A heartbeat never moves a position back.
func TestHeartbeatsKeepThePosition(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Heartbeat = 250 * time.Millisecond })
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	u.quiet(true)
	seq := u.publish("a", "1")
	want(t, s, "", "1")
	for beats := 0; beats < 3; {
		ev, err := s.NextWithin(wait)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Comment == "heartbeat" {
			beats++
		}
		if s.LastEventID() != idOf(seq) {
			t.Fatalf("position %s after %s", s.LastEventID(), idOf(seq))
		}
	}
	u.quiet(false)
}
