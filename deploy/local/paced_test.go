package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pacedChannels   = 500
	pacedPublishers = 4 // connections to Redis; each has channels of its own
)

// paced publishes numbered messages, on each channel one after the other, so
// many a second over all channels.
type paced struct {
	t    testing.TB
	addr string // of Redis
	same bool   // many payloads of a channel are the same
	seed uint64
	rate atomic.Int64
	// mayFail says that Redis may be away: a number is used up all the same.
	mayFail atomic.Bool
	failing [pacedPublishers]atomic.Bool

	// Messages of each channel: given to Redis, and answered.
	tried, done [pacedChannels]atomic.Int64

	stop    context.CancelFunc
	running sync.WaitGroup
}

// newPaced publishes in the Redis of p once it is started.
func newPaced(p *pair, same bool) *paced {
	return &paced{t: p.t, addr: p.redis.Addr(), same: same, seed: testSeed(p.t)}
}

func channelName(c int) string { return fmt.Sprint("paced:", c) }

// payload is that of message n of channel c. The channel is in it, because a
// client that watches several could not tell.
func (p *paced) payload(c, n int) string {
	what := strconv.Itoa(n)
	if p.same && (n%5 < 2 || c%20 == 0) {
		what = "same"
	}
	return strconv.Itoa(c) + " " + what
}

// start publishes so many messages a second until finish.
func (p *paced) start(rate int) {
	p.rate.Store(int64(rate))
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	for i := range pacedPublishers {
		p.running.Go(func() { p.publish(ctx, i, rand.New(rand.NewPCG(p.seed, uint64(i)))) })
	}
	p.t.Cleanup(p.finish)
}

// works says whether the last messages of all publishers have reached Redis.
func (p *paced) works() bool {
	for i := range p.failing {
		if p.failing[i].Load() {
			return false
		}
	}
	return true
}

// more waits until so many more messages are answered.
func (p *paced) more(n int) {
	p.t.Helper()
	sent := p.sent()
	n += sent.total()
	until(p.t, "messages are published", func() bool { sent := p.sent(); return sent.total() >= n })
}

func (p *paced) finish() {
	p.stop()
	p.running.Wait()
}

// publish is one publisher, with each pacedPublishers-th channel.
func (p *paced) publish(ctx context.Context, first int, rng *rand.Rand) {
	// No second try: it could publish a message twice.
	client := redis.NewClient(&redis.Options{Addr: p.addr, Protocol: 2, PoolSize: 1, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	defer client.Close()
	var mine, turn []int
	for c := first; c < pacedChannels; c += pacedPublishers {
		mine = append(mine, c)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	before, owed := time.Now(), 0.0
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		share := float64(p.rate.Load()) / pacedPublishers
		// After a stall a tenth of a second is made up for, not all of it.
		owed = min(owed+share*now.Sub(before).Seconds(), share/10+1)
		before = now
		pipe := client.Pipeline()
		var batch []int
		for ; owed >= 1; owed-- {
			if len(turn) == 0 { // all take turns, each time in another order
				turn = append(turn, mine...)
				rng.Shuffle(len(turn), func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
			}
			c := turn[0]
			turn = turn[1:]
			batch = append(batch, c)
			pipe.Publish(context.Background(), channelName(c), p.payload(c, int(p.tried[c].Add(1)-1)))
		}
		if len(batch) == 0 {
			continue
		}
		_, err := pipe.Exec(context.Background())
		p.failing[first].Store(err != nil)
		if err != nil && !p.mayFail.Load() {
			p.t.Errorf("publish: %v", err)
			return
		}
		for _, c := range batch {
			p.done[c].Add(1)
		}
	}
}

// counts are messages of each channel.
type counts [pacedChannels]int

// sent is what Redis has answered up to now.
func (p *paced) sent() (n counts) {
	for c := range n {
		n[c] = int(p.done[c].Load())
	}
	return n
}

// begun is what Redis may have got up to now.
func (p *paced) begun() (n counts) {
	for c := range n {
		n[c] = int(p.tried[c].Load())
	}
	return n
}

func (n *counts) total() (sum int) {
	for _, v := range n {
		sum += v
	}
	return sum
}
