package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// roamers are roamers on a few channels of their own, which have to see every
// message of theirs although they keep leaving.
type roamers struct {
	t     testing.TB
	all   []*roamer
	names []string
	sent  map[string]int // messages of a channel; not while they are told to finish
	// honest says that they may be told of a gap where nothing was lost, because
	// the stream could have lost something.
	honest bool
}

// newRoamers have a position when it returns, and so miss nothing from then on. by is
// each one's client; nil: they connect by http.
func newRoamers(t testing.TB, addr, prefix string, clients int, rng *rand.Rand, by func(i int) *http.Client) *roamers {
	t.Helper()
	rs := &roamers{t: t, sent: map[string]int{}}
	name := func(group, i int) string { return fmt.Sprintf("%s:%d:%d", prefix, group%4, i) }
	for i := range 12 {
		rs.names = append(rs.names, name(i, i/4))
	}
	for i := range clients {
		r := &roamer{
			addrs: []string{addr}, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)),
			next: map[string]int{}, safe: map[string]int{}, gaps: map[string]int{},
		}
		if by != nil {
			r.client = by(i)
		}
		other := name(i+1, 1)
		pattern := strings.TrimSuffix(name(i, 0), "0")
		r.query = "pattern=" + pattern + "*&channel=" + other
		r.takes = func(name string) bool { return strings.HasPrefix(name, pattern) || name == other }
		rs.all = append(rs.all, r)
	}
	rs.arrive()
	return rs
}

// arrive gives all a position, before anything is published for them.
func (rs *roamers) arrive() {
	rs.each(func(r *roamer) error {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		err := r.visit(ctx, func() bool { return r.id != "" })
		for _, name := range rs.names {
			if r.takes(name) {
				r.next[name], r.safe[name] = 0, 0
			}
		}
		return err
	})
}

// each lets all do something at once, and waits for them.
func (rs *roamers) each(f func(*roamer) error) {
	var wg sync.WaitGroup
	for i, r := range rs.all {
		wg.Go(func() {
			if err := f(r); err != nil {
				rs.t.Errorf("roamer %d (%s): %v", i, r.query, err)
			}
		})
	}
	wg.Wait()
}

// publish adds numbered messages to a burst.
func (rs *roamers) publish(pipe redis.Pipeliner, rng *rand.Rand) {
	for _, name := range rs.names {
		for range rng.IntN(8) {
			pipe.Publish(context.Background(), name, fmt.Sprint(name, " ", rs.sent[name]))
			rs.sent[name]++
		}
	}
}

// roam lets all come and go until the context ends.
func (rs *roamers) roam(ctx context.Context) {
	rs.each(func(r *roamer) error {
		for ctx.Err() == nil {
			visit, cancel := context.WithTimeout(ctx, time.Duration(r.rng.IntN(400))*time.Millisecond)
			err := r.visit(visit, func() bool { return false })
			cancel()
			if err != nil {
				return err
			}
			pause(ctx, time.Duration(r.rng.IntN(200))*time.Millisecond)
		}
		return nil
	})
}

// stay lets all stay until the context ends; they come back only when they have to.
func (rs *roamers) stay(ctx context.Context) {
	rs.each(func(r *roamer) error {
		for ctx.Err() == nil {
			if err := r.visit(ctx, func() bool { return false }); err != nil {
				return err
			}
			pause(ctx, time.Duration(r.rng.IntN(200))*time.Millisecond)
		}
		return nil
	})
}

// finish lets all come once more, until they have everything.
func (rs *roamers) finish() {
	rs.each(func(r *roamer) error {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		done := func() bool {
			for name, n := range rs.sent {
				if r.takes(name) && r.next[name] < n {
					return false
				}
			}
			return true
		}
		for !done() {
			if err := r.visit(ctx, done); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return fmt.Errorf("nothing comes for %s: it has %v of %v", wait, r.next, rs.sent)
			}
		}
		if len(r.gaps) > 0 && !rs.honest {
			return fmt.Errorf("told of gaps where nothing was lost: %v", r.gaps)
		}
		return nil
	})
}

// visits is how often they have connected.
func (rs *roamers) visits() (n int) {
	for _, r := range rs.all {
		n += int(r.ups.Load())
	}
	return n
}

// gaps are what they were told of, by reason.
func (rs *roamers) gaps() map[string]int {
	gaps := map[string]int{}
	for _, r := range rs.all {
		for reason, n := range r.gaps {
			gaps[reason] += n
		}
	}
	return gaps
}
