package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// crowd is many clients behind a balancer that stay, as pages do: one whose stream has
// ended comes back after the time that it was told. Each has to see every message of its
// two channels, in order, which are published until the crowd is told to finish.
type crowd struct {
	*roamers
	b          *balanced
	publishing func() // ends it, and waits
	staying    func() // likewise

	mu    sync.Mutex // guards the following fields
	on    map[string]int
	moves []move // in no order
}

// move is one client's stream that has ended.
type move struct {
	node  string        // that it was on, "" if none answered
	ended time.Time     // when
	told  bool          // the last words were when to come back
	retry time.Duration // that time
	back  time.Time     // when it did, zero before
}

// perConnection is how many clients share a connection to the balancer, by HTTP/2.
const perConnection = 10

// newCrowd lets them come. Their positions are older than the first message.
func newCrowd(b *balanced, prefix string, clients int, rng *rand.Rand) *crowd {
	b.t.Helper()
	// honest: on a slow machine the bridge may be so late that it cannot tell.
	c := &crowd{b: b, on: map[string]int{}, roamers: &roamers{t: b.t, sent: map[string]int{}, honest: true}}
	for i := range 10 {
		c.names = append(c.names, fmt.Sprintf("%s:%d", prefix, i))
	}
	var shared *http.Client
	for i := range clients {
		if i%perConnection == 0 {
			shared = b.balancer.client(true, "127.0.0.1")
		}
		mine := []string{c.names[i%len(c.names)], c.names[(i+3)%len(c.names)]}
		c.all = append(c.all, &roamer{
			addrs: []string{b.Addr()}, client: shared, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)),
			next: map[string]int{}, safe: map[string]int{}, gaps: map[string]int{},
			query: fmt.Sprintf("channels=%s,%s", mine[0], mine[1]),
			takes: func(name string) bool { return slices.Contains(mine, name) },
		})
	}
	c.arrive()
	c.publishing = c.inBackground(func(ctx context.Context) { c.publish(ctx, rng) })
	c.stay()
	return c
}

// inBackground runs f until the function returned is called, which waits, or the test
// ends.
func (c *crowd) inBackground(f func(context.Context)) func() {
	ctx, cancel := context.WithCancel(c.b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	c.b.t.Cleanup(stop)
	return stop
}

// publish sends a message on about half of the channels five times a second.
func (c *crowd) publish(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		pipe := c.b.site.client.Pipeline()
		for _, name := range c.names {
			if rng.IntN(2) == 0 {
				pipe.Publish(context.Background(), name, fmt.Sprint(name, " ", c.sent[name]))
				c.sent[name]++
			}
		}
		if _, err := pipe.Exec(context.Background()); err != nil {
			c.t.Error(err)
			return
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// stay lets all connect, and stay until c.staying is called.
func (c *crowd) stay() {
	c.staying = c.inBackground(func(ctx context.Context) {
		c.each(func(r *roamer) error { return c.live(ctx, r) })
	})
	eventually(c.t, "all are connected", c.whole)
}

// live is one client's part of it.
func (c *crowd) live(ctx context.Context, r *roamer) error {
	node := ""
	r.met = func(name string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		node = name
		c.on[node]++
	}
	for ctx.Err() == nil {
		if err := r.visit(ctx, func() bool { return false }); err != nil {
			return err
		}
		now := time.Now()
		c.mu.Lock()
		if node != "" {
			c.on[node]--
		}
		i := len(c.moves)
		if ctx.Err() == nil {
			c.moves = append(c.moves, move{node: node, ended: now, told: r.told, retry: r.retry})
		}
		node = ""
		c.mu.Unlock()
		if pause(ctx, r.retry); ctx.Err() == nil {
			c.mu.Lock()
			c.moves[i].back = time.Now()
			c.mu.Unlock()
		}
	}
	return nil
}

// spread is how many are connected to each node now.
func (c *crowd) spread() (on map[string]int, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on = map[string]int{}
	for name, n := range c.on {
		if n > 0 {
			on[name] = n
			all += n
		}
	}
	return on, all
}

// whole tells whether everyone is connected.
func (c *crowd) whole() bool {
	_, n := c.spread()
	return n == len(c.all)
}

// moved waits until nobody is on a node any more that has ended, and everyone on another.
func (c *crowd) moved(node string) {
	c.t.Helper()
	eventually(c.t, "nobody is on "+node, func() bool { on, _ := c.spread(); return on[node] == 0 })
	eventually(c.t, "all are connected", c.whole)
}

// movesFrom are the streams of a node that have ended since, in that order.
func (c *crowd) movesFrom(node string, since time.Time) (list []move) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.moves {
		if m.node == node && !m.ended.Before(since) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b move) int { return a.ended.Compare(b.ended) })
	return list
}

// total is how many streams have ended, of all nodes.
func (c *crowd) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.moves {
		if m.node != "" {
			n++
		}
	}
	return n
}

// finish lets all leave, and then come once more until they have everything.
func (c *crowd) finish() {
	c.publishing()
	c.staying()
	c.roamers.finish()
	if gaps := c.gaps(); len(gaps) > 0 {
		c.t.Logf("told of gaps where nothing was lost: %v", gaps)
	}
}

// peak is how many came back within a tenth of a second, at most.
func peak(list []move) (most int) {
	var back []time.Time
	for _, m := range list {
		if !m.back.IsZero() {
			back = append(back, m.back)
		}
	}
	slices.SortFunc(back, time.Time.Compare)
	first := 0
	for i, at := range back {
		for at.Sub(back[first]) >= 100*time.Millisecond {
			first++
		}
		most = max(most, i+1-first)
	}
	return most
}
