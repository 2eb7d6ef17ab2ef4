package ssenode

import (
	"context"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// A node without NATS is not ready, and takes clients all the same: they wait, and then
// have everything, those that come back and those that are new. deploy/kubernetes leaves
// such nodes in their Service, as a balancer without nodes would answer 503.
func TestClientsThatComeWithoutNATS(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		link := embedded.TestProxy(t, u.server.Addr())
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine, c.NATS.URL = engine, "nats://"+link.Addr() })
		first := open(t, n, "/events?channel=a")
		settle(t, n)
		seq := u.publish("a", "1")
		id := want(t, first, "", "1").ID
		first.Close()
		until(t, "a pulse comes after it", func() bool { return n.dispatch.head.Load() > seq })

		link.Shut()
		until(t, "the node notices", func() bool { return n.ready() != nil })
		u.publish("a", "2")
		connect := func(id string) *sseclient.Stream {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			s, err := sseclient.Open(ctx, base(n)+"/events?channel=a", sseclient.Options{LastEventID: id})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			return s
		}
		back, fresh := connect(id), connect("")
		u.publish("a", "3")
		link.Reopen()
		until(t, "the node is ready", func() bool { return n.ready() == nil })
		u.publish("a", "4")
		if ev := next(t, back); ev.Name != "connected" {
			t.Errorf("got %q", ev.Name)
		}
		for _, text := range []string{"2", "3", "4"} {
			want(t, back, "", text)
		}
		if ev := next(t, fresh); ev.Name != "connected" {
			t.Errorf("got %q", ev.Name)
		}
		if ev := next(t, fresh); ev.Data == "2" { // the node did not know of it when it came
			want(t, fresh, "", "3")
		} else if ev.Data != "3" {
			t.Errorf("got %q with %s, want 3", ev.Name, ev.Data)
		}
		want(t, fresh, "", "4")
	})
}
