package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// While messages flow a node is killed, one is added, one drained, and the balancer
// reloaded several times: whoever stays and whoever comes and goes has everything,
// nobody is answered with an error and nobody told of a gap.
func faultsBehind(b *balanced) {
	rng := rand.New(rand.NewPCG(testSeed(b.t), 0))
	by := func(i int) *http.Client { return b.balancer.client(i%2 == 0, "127.0.0.1") }
	stay := newRoamers(b.t, b.Addr(), "stay", 12, rng, by)
	roam := newRoamers(b.t, b.Addr(), "roam", 12, rng, by)
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { stay.stay(ctx) })
	wg.Go(func() { roam.roam(ctx) })
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		for ctx.Err() == nil {
			pipe := b.site.client.Pipeline()
			stay.publish(pipe, rng)
			roam.publish(pipe, rng)
			if _, err := pipe.Exec(context.Background()); err != nil {
				b.t.Error(err)
				return
			}
			pause(ctx, 50*time.Millisecond)
		}
	})
	t := b.t
	finish := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer finish()
	visits := func() int { return stay.visits() + roam.visits() }
	more := func() { n := visits() + 50; eventually(t, "clients come and go", func() bool { return visits() >= n }) }

	more()
	victim := b.nodes[0]
	_ = victim.cmd.Process.Kill()
	<-victim.done
	more()

	fresh := b.site.addNode("n4", "127.0.0.1:0", "127.0.0.1:0", "SSENODE_HEARTBEAT=1s", "SSENODE_RETRY=200ms", "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=500ms", "SSENODE_LINGER=200ms")
	b.add(fresh.addrs())
	if out, err := b.check(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.reload()
	eventually(t, "the new node has clients", func() bool { return fresh.metric("sluice_ssenode_connections") > 0 })
	more()

	drained := b.nodes[1]
	stopped := make(chan struct{})
	go func() { defer close(stopped); drained.stop() }()
	until(t, "it drains", func() bool { return !drained.ready() })
	if b.name == "haproxy" { // nginx does not ask nodes: it sends clients there until the port is closed
		eventually(t, "HAProxy knows", func() bool { return strings.Contains(b.Output(), "Server streams/node2 is DOWN") })
		begun := func() float64 { return drained.metrics()["sluice_ssenode_connects_total"] } // 0 once it has ended
		before := begun()
		more()
		if n := begun(); n > before {
			t.Errorf("%v new streams for a node that drains", n-before)
		}
	}
	<-stopped
	more()
	for range 3 {
		b.reload()
		for _, client := range []*http.Client{b.http1, b.http2, b.balancer.client(true, "127.0.0.1")} { // of before, and a new one
			// HAProxy closes what lies idle at a reload, maybe just when the request comes: it
			// is sent again on another connection then, by Go with that header, by browsers
			// without.
			if got := postBy(t, client, b.balancer.url+"/publish/after", "x", "Idempotency-Key: 1"); !strings.HasPrefix(got, "200 ") {
				t.Errorf("POST after a reload: %s", got)
			}
		}
		more()
	}
	finish()
	for _, rs := range []*roamers{stay, roam} {
		rs.finish()
	}
	messages := 0
	for _, n := range stay.sent {
		messages += n
	}
	t.Logf("%d messages to those who stay, %d visits of them, %d of the others", messages, stay.visits(), roam.visits())
}
