package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/bridge"
	"sluice/shared/embedded"
)

// stuckFor is how long nothing may come, with all faults over: only a hang reaches it,
// also where the bridge and NATS have next to nothing of the processor.
const stuckFor = 3 * wait

var largePad = strings.Repeat("x", 256<<10)

// roam lets clients come and go while numbered messages are published on
// channels that appear and disappear, with fault going on beside, and checks
// that every client sees every message of its channels, in order.
func (f *fleet) roam(clients int, load time.Duration, fault func(ctx context.Context)) {
	t := f.t
	t.Helper()
	seed := testSeed(t)
	const channels = 24
	name := func(i int) string { return fmt.Sprintf("roam:%d:%d", i%3, i) }
	var sent [channels]atomic.Int64
	rng := rand.New(rand.NewPCG(seed, 0))
	var all []*roamer
	for i := range clients {
		r := &roamer{addrs: f.addrs(), pad: f.pad, rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), next: map[string]int{}, safe: map[string]int{}, gaps: map[string]int{}}
		q := url.Values{}
		var mine []string
		for range 1 + rng.IntN(5) {
			c := name(rng.IntN(channels))
			mine = append(mine, c)
			q.Add("channel", c)
		}
		prefix := "none"
		if rng.IntN(3) == 0 {
			group := rng.IntN(3)
			prefix = fmt.Sprintf("roam:%d:", group)
			q.Add("pattern", prefix+"*")
		}
		r.query = q.Encode()
		r.takes = func(c string) bool { return strings.HasPrefix(c, prefix) || slices.Contains(mine, c) }
		all = append(all, r)
	}
	// All have a position before the first message, so that they have to see
	// each one.
	var first sync.WaitGroup
	for _, r := range all {
		first.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			if err := r.visit(ctx, func() bool { return r.id != "" }); err != nil || r.id == "" {
				t.Errorf("first visit: %v, position %q", err, r.id)
			}
			for i := range channels {
				if r.takes(name(i)) {
					r.next[name(i)], r.safe[name(i)] = 0, 0
				}
			}
		})
	}
	first.Wait()
	if t.Failed() {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), load)
	defer stop()
	// Under the race detector everything is twenty times as slow: clients that are
	// far behind are given time, or after a while none ever catches up.
	behind := func() bool {
		for _, r := range all {
			all := -r.has.Load()
			for i := range channels {
				if r.takes(name(i)) {
					all += sent[i].Load()
				}
			}
			if all > 8000 {
				return true
			}
		}
		return false
	}
	var publishing, faults, roaming sync.WaitGroup
	publishing.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 1<<32))
		for ctx.Err() == nil {
			if behind() {
				pause(ctx, 10*time.Millisecond)
				continue
			}
			pipe := f.client.Pipeline()
			for range 1 + rng.IntN(20) {
				// Loud and quiet ones: the higher the number the rarer.
				i := min(rng.IntN(channels), rng.IntN(channels), rng.IntN(channels))
				n := sent[i].Add(1) - 1
				pad := f.pad
				if f.large.Load() > 0 {
					f.large.Add(-1)
					pad = largePad
				}
				pipe.Publish(context.Background(), name(i), fmt.Sprintf("%s %d %s", name(i), n, pad))
			}
			if _, err := pipe.Exec(context.Background()); err != nil {
				t.Error(err)
				return
			}
			pause(ctx, time.Duration(rng.IntN(12))*time.Millisecond)
		}
	})
	if fault != nil {
		faults.Go(func() { fault(ctx) })
	}
	var failed atomic.Bool
	for k, r := range all {
		roaming.Go(func() {
			fail := func(err error) {
				failed.Store(true)
				stop()
				t.Errorf("client %d (%s): %v", k, r.query, err)
			}
			for ctx.Err() == nil && !failed.Load() {
				visit, cancel := context.WithTimeout(ctx, time.Duration(rand.N(400)+1)*time.Millisecond)
				err := r.visit(visit, func() bool { return false })
				cancel()
				if err != nil {
					fail(err)
					return
				}
				if r.rng.IntN(4) == 0 {
					pause(ctx, time.Duration(r.rng.IntN(600))*time.Millisecond)
				}
			}
			publishing.Wait()
			faults.Wait()
			complete := func() bool {
				for i := range channels {
					if r.takes(name(i)) && int64(r.next[name(i)]) < sent[i].Load() {
						return false
					}
				}
				return true
			}
			// After a fault there may be much to catch up with: what counts is that
			// it goes on.
			end, cancel := context.WithCancel(context.Background())
			defer cancel()
			stuck := time.AfterFunc(stuckFor, cancel)
			defer stuck.Stop()
			got := 0
			done := func() bool {
				if r.got != got {
					got = r.got
					stuck.Reset(stuckFor)
				}
				return complete()
			}
			for !complete() && end.Err() == nil && !failed.Load() {
				if err := r.visit(end, done); err != nil {
					fail(err)
					return
				}
			}
			if !complete() && !failed.Load() {
				var missing []string
				for i := range channels {
					if r.takes(name(i)) && int64(r.next[name(i)]) < sent[i].Load() {
						missing = append(missing, fmt.Sprintf("%s %d of %d", name(i), r.next[name(i)], sent[i].Load()))
					}
				}
				fail(fmt.Errorf("nothing comes for %s: %v %q", stuckFor, missing, r.trace[max(0, len(r.trace)-8):]))
			}
		})
	}
	roaming.Wait()
	steps, ups, messages := 0, 0, int64(0)
	gaps := map[string]int{}
	for _, r := range all {
		steps, ups = steps+r.steps, ups+int(r.ups.Load())
		for reason, n := range r.gaps {
			gaps[reason] += n
		}
	}
	for i := range sent {
		messages += sent[i].Load()
	}
	t.Logf("%d messages, %d events to %d clients in %d visits, gaps %v", messages, steps, clients, ups, gaps)
}

// pause is the time between two faults, or two bursts of a load.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// long is how long a load lasts: seconds in CI, longer in `task soak`.
func long(short time.Duration) time.Duration {
	if text := os.Getenv("SLUICE_SOAK"); text != "" {
		if d, err := time.ParseDuration(text); err == nil {
			return d
		}
	}
	return short
}

// Clients come and go over three nodes, under load.
func TestRoaming(t *testing.T) {
	f := newFleet(t, embedded.TestNATSWith(t, embedded.NATSOptions{}), nil)
	f.roam(40, long(3*time.Second), nil)
}

// The same while the nodes' connections to NATS are cut, or hang for a while.
func TestRoamingWithCutConnections(t *testing.T) {
	f := newFleet(t, embedded.TestNATSWith(t, embedded.NATSOptions{}), nil)
	f.roam(30, long(3*time.Second), func(ctx context.Context) {
		rng := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			hop := f.hops[rng.IntN(len(f.hops))]
			if rng.IntN(2) == 0 {
				hop.Hang() // what comes meanwhile is lost
				pause(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
				hop.Cut()
			} else {
				hop.Cut()
			}
			pause(ctx, time.Duration(200+rng.IntN(800))*time.Millisecond)
		}
	})
}

// The same while nodes take nothing from NATS for a while, so that the server
// gives them up as slow consumers.
func TestRoamingWithSlowConsumers(t *testing.T) {
	nats := embedded.TestNATSWith(t, embedded.NATSOptions{Modify: func(o *server.Options) { o.MaxPending = 3 << 20 }})
	f := newFleet(t, nats, nil)
	f.pad = strings.Repeat("x", 4<<10)
	f.roam(20, long(4*time.Second), func(ctx context.Context) {
		rng := rand.New(rand.NewPCG(3, 4))
		for ctx.Err() == nil {
			hop := f.hops[rng.IntN(len(f.hops))]
			hop.Stall.Store(true)
			if nats.Server().NumSlowConsumers() == 0 {
				f.large.Store(40) // 10 MiB: enough for the server, however slow the load is
			}
			pause(ctx, time.Duration(500+rng.IntN(2000))*time.Millisecond)
			hop.Stall.Store(false)
			pause(ctx, time.Duration(500+rng.IntN(1000))*time.Millisecond)
		}
	})
	if n := nats.Server().NumSlowConsumers(); n == 0 {
		t.Error("no node was a slow consumer")
	} else {
		t.Logf("%d slow consumers", n)
	}
}

// The same while a NATS server that keeps the stream in files is restarted.
func TestRoamingWithNATSRestarts(t *testing.T) {
	nats := embedded.TestNATSWith(t, embedded.NATSOptions{StoreDir: t.TempDir()})
	f := newFleet(t, nats, func(c *bridge.Config) { c.Bridge.Storage = "file" })
	f.roam(30, long(5*time.Second), func(ctx context.Context) {
		for ctx.Err() == nil {
			// Under the race detector clients need that long to catch up.
			pause(ctx, 3*time.Second)
			if err := nats.Stop(); err != nil {
				t.Error(err)
			}
			pause(ctx, 200*time.Millisecond)
			if err := nats.Restart(); err != nil {
				t.Error(err)
			}
		}
	})
}

// The same with three NATS servers that each keep every event: the stream's
// leader is killed, and a follower stalls and comes back behind the others.
func TestRoamingInCluster(t *testing.T) {
	t.Parallel()
	cluster := embedded.TestNATSCluster(t, 3)
	f := newFleet(t, cluster, func(c *bridge.Config) { c.Bridge.Replicas = 3 })
	// The servers may need several elections, of 4 to 9 s each.
	within := func(f func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), 4*wait)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	}
	roles := func() (leader *embedded.Process, followers []*embedded.Process) {
		within(func(ctx context.Context) (err error) {
			leader, followers, err = cluster.Roles(ctx, "SLUICE")
			return err
		})
		return leader, followers
	}
	kills, stalls := 0, 0
	f.roam(30, long(12*time.Second), func(ctx context.Context) {
		leader, followers := roles()
		for leader != nil && ctx.Err() == nil {
			if err := followers[0].Signal(syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			pause(ctx, time.Second)
			if err := followers[0].Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
			stalls++
			pause(ctx, time.Second)
			if err := leader.Kill(); err != nil {
				t.Error(err)
			}
			kills++
			pause(ctx, 2*time.Second)
			// Before that it would be a loss, of which clients are rightly told.
			within(func(ctx context.Context) error { return cluster.Elected(ctx, "SLUICE", leader) })
			if err := leader.Restart(); err != nil {
				t.Error(err)
			}
			// Also at the end: how long clients wait is counted from here on, and
			// without a leader there is nothing to come.
			leader, followers = roles()
		}
	})
	t.Logf("%d leaders killed, %d followers stalled", kills, stalls)
}
