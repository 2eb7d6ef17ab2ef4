//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	// A look is itself a connection, with two goroutines, and the one before may
	// still be closing.
	spareGoroutines  = 4
	spareDescriptors = 3
	// What the garbage collector and the system keep beside what is used differs
	// by some MiB from one look to the next.
	spareHeap     = 2 << 20
	spareResident = 12 << 20
	// What the first work may make of it: pools, buffers, stretches of history that
	// are kept for some seconds.
	workMemory = 32 << 20
)

// level is what one of our processes holds.
type level struct {
	goroutines, descriptors int
	connections, topics     int // of a node
	subscriptions           int // as the NATS server counts them
	heap, resident          int // bytes
}

func (l level) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d connections, %d topics, %d subscriptions, %d KiB heap, %d KiB resident",
		l.goroutines, l.descriptors, l.connections, l.topics, l.subscriptions, l.heap>>10, l.resident>>10)
}

// limit is what a process may hold after the first work that had this level
// before it.
func (l level) limit() level {
	l.goroutines += spareGoroutines
	l.descriptors += spareDescriptors
	l.heap += workMemory
	l.resident += workMemory
	return l
}

// within makes the limit stricter: the same counts, and the memory of a level
// that was found after work.
func (l level) within(found level) level {
	l.heap, l.resident = found.heap*5/4+spareHeap, found.resident*5/4+spareResident
	return l
}

// above says what of l is more than the limit.
func (l level) above(limit level) string {
	var list []string
	f := func(what string, is, most int) {
		if is > most {
			list = append(list, fmt.Sprintf("%s: %d, at most %d", what, is, most))
		}
	}
	f("goroutines", l.goroutines, limit.goroutines)
	f("descriptors", l.descriptors, limit.descriptors)
	f("connections", l.connections, limit.connections)
	f("topics", l.topics, limit.topics)
	f("NATS subscriptions", l.subscriptions, limit.subscriptions)
	f("bytes of heap", l.heap, limit.heap)
	f("bytes resident", l.resident, limit.resident)
	return strings.Join(list, "; ")
}

// goroutines says how many there are, and where, those of which there are most
// first.
func (p *proc) goroutines() string {
	p.t.Helper()
	_, profile := fetch(p.t, p.admin()+"/debug/pprof/goroutine?debug=1")
	return profile
}

// look takes the figures of a process as they are now.
func (c *churn) look(p *proc) level {
	c.t.Helper()
	m := p.metrics()
	l := level{
		heap:        int(m["go_memstats_heap_alloc_bytes"]),
		connections: int(m["sluice_ssenode_connections"]), topics: int(m["sluice_ssenode_nats_subscriptions"]),
		descriptors: descriptors(c.t, p.cmd.Process.Pid), resident: memory(c.t, p.cmd.Process.Pid, "RssAnon"),
	}
	// Not go_goroutines: those that gather the metrics would be among them, up to
	// one for each.
	if _, err := fmt.Sscanf(p.goroutines(), "goroutine profile: total %d", &l.goroutines); err != nil {
		c.t.Fatalf("goroutines of %s: %v", p.name, err)
	}
	_, body := fetch(c.t, c.monitor+"/connz")
	var z struct {
		Connections []struct {
			Name          string
			Subscriptions int
		}
	}
	if err := json.Unmarshal([]byte(body), &z); err != nil {
		c.t.Fatalf("%s/connz: %v: %.200s", c.monitor, err, body)
	}
	for _, nc := range z.Connections {
		if strings.HasPrefix(nc.Name, "sluice-"+p.name) {
			l.subscriptions += nc.Subscriptions
		}
	}
	return l
}

// rest waits until a process is within the limit: subscriptions outlive their
// clients by the linger, goroutines and memory the storm by some seconds.
func (c *churn) rest(p *proc, limit level) level {
	t := c.t
	t.Helper()
	var now level
	defer func() {
		if above := now.above(limit); above != "" {
			t.Errorf("%s has after a round %s\n%.1000s", p.name, above, p.goroutines())
		}
	}()
	until(t, p.name+" is as before", func() bool {
		pause(t.Context(), 100*time.Millisecond) // looking costs memory, too
		for range 2 {                            // what is in pools outlives one collection
			fetch(t, p.admin()+"/debug/pprof/heap?gc=1")
		}
		now = c.look(p)
		return now.above(limit) == ""
	})
	return now
}

// steady compares the last quarter of the rounds with the first one: a little
// more after each round is within any limit for long. garbage is how much a process
// may have lying about, at times more and at times less.
func steady(t *testing.T, name string, all []level, garbage int) {
	t.Helper()
	n := len(all) / 4
	if n == 0 {
		return
	}
	sum := func(levels []level) (heap, resident int) {
		for _, l := range levels {
			heap, resident = heap+l.heap/n, resident+l.resident/n
		}
		return heap, resident
	}
	heap0, resident0 := sum(all[:n])
	heap1, resident1 := sum(all[len(all)-n:])
	t.Logf("%s, first and last quarter of the rounds: heap %d and %d KiB, resident %d and %d KiB", name, heap0>>10, heap1>>10, resident0>>10, resident1>>10)
	if heap1 > heap0*11/10+spareHeap/2 || resident1 > resident0*11/10+spareResident/2+garbage {
		t.Errorf("the memory of the %s grows from round to round", name)
	}
}
