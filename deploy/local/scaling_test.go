package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// While messages flow clients come, and a scaler makes four nodes of one, which fill
// because streams are closed at SSENODE_MAX_AGE; then most clients leave, and it drains
// nodes until there is one. Nothing is lost, nothing comes twice, and streams that end
// were told when to come back.
func TestAutoscaling(t *testing.T) {
	embedded.NeedProgram(t, "haproxy")
	embedded.NeedProgram(t, "prometheus")
	// Four nodes are wanted with 151 clients: many are away at times, as streams are closed
	// all the time. More than four there may not be.
	const few, many, nodes, each = 40, 200, 4, 50
	env := []string{"SSENODE_MAX_AGE=4s", "SSENODE_DRAIN_TIME=2s"}
	s := newSite(t, embedded.NATSProcessOptions{}, 0)
	s.nodes = append(s.nodes, s.addNode("n1", "127.0.0.1:0", "127.0.0.1:0", env...))
	b := newBalanced(t, s, "haproxy", "127.0.0.1:1")
	scale := newScaler(b, each, nodes, env...)
	rng := rand.New(rand.NewPCG(testSeed(t), 0))

	stay := newCrowd(b, "stay", few, rand.New(rand.NewPCG(rng.Uint64(), 1)))
	scale.until("the first are counted", func() bool { v := scale.ask(scale.query); return len(v) == 1 && v[0] >= few*3/4 })
	if len(b.nodes) != 1 {
		t.Fatalf("%d nodes for %d clients", len(b.nodes), few)
	}
	guests := newCrowd(b, "guests", many, rand.New(rand.NewPCG(rng.Uint64(), 2)))
	// Else the first looks would go by how far they had come.
	eventually(t, "the others are counted", func() bool {
		v := scale.ask(scale.query)
		return len(v) == 1 && v[0] > (nodes-1)*each
	})
	began := time.Now()
	scale.until("there are four nodes", func() bool { return len(b.nodes) == nodes })
	t.Logf("%d clients: %d nodes after %.1f s", few+many, nodes, time.Since(began).Seconds())
	began = time.Now()
	var on []float64
	scale.until("all nodes have their share of clients", func() bool {
		on = scale.ask("sluice_ssenode_connections")
		mean := float64(few+many) / nodes
		return len(on) == nodes && slices.Min(on) >= mean/2 && slices.Max(on) <= mean*2
	})
	t.Logf("they have %v clients after %.1f s", on, time.Since(began).Seconds())
	if n := b.nodes[0].metric(`sluice_ssenode_closes_total{reason="max-age"}`); n == 0 {
		t.Error("no stream is counted as closed for its age")
	}

	guests.staying()
	began = time.Now()
	scale.until("there is one node", func() bool { return len(b.nodes) == 1 })
	t.Logf("%d clients: one node after %.1f s; %v", few, time.Since(began).Seconds(), scale.steps)
	// At most twice as many at once, and one less: whether it takes more steps than it
	// needs depends on how many are away when it looks.
	for i, n := range scale.steps[1:] {
		if was := scale.steps[i]; n > 2*was || n < was-1 {
			t.Errorf("from %d to %d nodes: %v", was, n, scale.steps)
		}
	}
	eventually(t, "all who stayed are connected", stay.whole)
	for _, c := range []*crowd{stay, guests} {
		c.finish()
		endedWell(t, "all nodes", c.moves)
	}
	t.Logf("%d visits of those who stayed, %d of the others", stay.visits(), guests.visits())
}
