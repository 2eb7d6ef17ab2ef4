package main

import (
	"fmt"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// Redis and NATS are killed and started again under the running programs: all
// come back by themselves, the clients stay connected.
func TestOutages(t *testing.T) {
	t.Parallel()
	s := newSite(t, embedded.NATSProcessOptions{}, 2)
	var streams []*sseclient.Stream
	for i := range 20 {
		streams = append(streams, s.open(i%2, "/events?channel=a&pattern=b:*"))
	}
	works := func(what, gap string) {
		t.Helper()
		until(t, "all are ready "+what, func() bool { return s.bridge.ready() && s.nodes[0].ready() && s.nodes[1].ready() })
		s.publish("a", what)
		s.publish("b:1", what)
		for _, st := range streams {
			if gap != "" {
				if ev := next(t, st); ev.Name != "gap" || !strings.Contains(ev.Data, gap) {
					t.Fatalf("%s: got %q with %s, want a gap with %s", what, ev.Name, ev.Data, gap)
				}
			}
			want(t, st, "", what)
			want(t, st, "", what)
		}
		for i, n := range s.nodes {
			if c := n.metric("sluice_ssenode_connections"); c != 10 {
				t.Errorf("%s: node %d has %v streams, want 10", what, i, c)
			}
		}
	}
	works("at first", "")
	for round := range 2 {
		kill(t, s.redis)
		until(t, "the bridge notices", func() bool { return !s.bridge.ready() })
		if err := s.redis.Restart(); err != nil {
			t.Fatal(err)
		}
		works(fmt.Sprint("after Redis ", round), `"upstream"`)
		kill(t, s.nats)
		until(t, "all notice", func() bool { return !s.bridge.ready() && !s.nodes[0].ready() && !s.nodes[1].ready() })
		if err := s.nats.Restart(); err != nil {
			t.Fatal(err)
		}
		works(fmt.Sprint("after NATS ", round), `"stream-recreated"`)
	}
}

// kill ends a server as hard as it can be.
func kill(t testing.TB, server interface{ Stop() error }) {
	t.Helper()
	var err error
	if p, ok := server.(*embedded.Process); ok {
		err = p.Kill()
	} else {
		err = server.Stop()
	}
	if err != nil {
		t.Fatal(err)
	}
}
