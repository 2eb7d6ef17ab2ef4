package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// All NATS servers are stopped for a while, while Redis goes on publishing. What
// the bridge's queue has room for is delivered afterwards, in order; what it has
// not is counted, and told in its place. With a second bridge it is the same,
// but who of them had room for what, nobody knows.
func TestNATSAway(t *testing.T) {
	needTakeovers(t)
	away, queue := 5*time.Second, 1<<20
	if takeovers(t) >= 20 {
		away, queue = 30*time.Second, 8<<20
	}
	for bridges := 1; bridges <= 2; bridges++ {
		t.Run(fmt.Sprint(bridges, " bridges"), func(t *testing.T) { natsAway(t, bridges, away, queue) })
	}
}

func natsAway(t *testing.T, bridges int, away time.Duration, queue int) {
	p := newPair(t, bridges, "BRIDGE_STORAGE=file", fmt.Sprint("BRIDGE_QUEUE_BYTES=", queue))
	load := newPaced(p, false)
	ls := listen(p, load, 25, false)
	load.start(lossRate)
	safe := ls.flowing()
	servers := func(f func(*embedded.Process) error) {
		var all sync.WaitGroup
		for _, s := range p.nats.Servers {
			all.Go(func() {
				if err := f(s); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	servers((*embedded.Process).Stop)
	stopped := time.Now()
	fullest := 0
	look := func() {
		for _, m := range p.bridges {
			if n := int(m.metric("sluice_bridge_queue_bytes")); n > fullest {
				fullest = n
			}
		}
	}
	for time.Since(stopped) < away {
		look()
		pause(t.Context(), 50*time.Millisecond)
	}
	servers((*embedded.Process).Restart)
	eventually(t, "the queues are empty", func() bool {
		look()
		for _, m := range p.bridges {
			if m.metric("sluice_bridge_queue_bytes") > float64(queue)/10 {
				return false
			}
		}
		return true
	})
	p.await()
	back, lasted := load.begun(), time.Since(stopped)
	load.more(lossRate)
	load.finish()
	ls.caughtUp(load.sent())

	// A gap mark goes in even if the queue is full, one a second.
	if fullest > queue+256*int(lasted.Seconds()+1) || fullest < queue/2 {
		t.Errorf("the queue had at most %d bytes, its bound is %d", fullest, queue)
	}
	ls.missedOnly([2]counts{}, [2]counts{safe, back})
	missing, during := ls.missing(func(int, hole) {}), back.total()-safe.total()
	if missing == 0 || missing >= during {
		t.Errorf("%d messages are missing of %d while NATS was away", missing, during)
	}
	counted := 0
	for _, m := range p.bridges {
		counted += int(m.metric(`sluice_bridge_dropped_total{reason="queue-full"}`))
	}
	t.Logf("stopped for %s, written again after %.1fs: %d published, %d missing, %d counted, at most %d bytes queued", away, lasted.Seconds(), during, missing, counted, fullest)
	if bridges == 1 && counted != missing {
		t.Errorf("%d messages are missing, %d were counted", missing, counted)
	}
}
