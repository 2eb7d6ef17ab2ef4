package publisher

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
)

// Simulate plays scenarios until the context or the time is over, and returns
// nil then; an error means that an option is wrong. A Redis that is away does
// not end it: that is logged once, tried again with back-off, and what became
// due in the meantime is left out. A message whose answer got lost is not sent
// again, provided that the client does not by itself (see Open), and counted as
// lost. At the end it logs the totals, and each rate that was not kept.
func Simulate(ctx context.Context, client redis.UniversalClient, opts SimulateOptions, log *slog.Logger) error {
	sim, err := newSimulation(outbox{client}, opts, log)
	if err != nil {
		return err
	}
	sim.run(ctx)
	return nil
}

// sender is an outbox, or what tests put in its place.
type sender interface {
	publish(ctx context.Context, batch []message) (acked int, receivers int64, err error)
	ping(ctx context.Context) error
}

type simulation struct {
	// Static after construction.
	out       sender
	opts      SimulateOptions
	scenarios []Scenario
	log       *slog.Logger

	mu      sync.Mutex // guards the following fields
	failing int        // scenarios whose last publish failed
	total   totals
}

// totals are counted in messages.
type totals struct{ acked, lost, skipped int64 }

func newSimulation(out sender, o SimulateOptions, log *slog.Logger) (*simulation, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	scenarios, err := find(o.Scenarios)
	if err != nil {
		return nil, err
	}
	return &simulation{out: out, opts: o, scenarios: scenarios, log: log}, nil
}

func (s *simulation) run(ctx context.Context) totals {
	start := time.Now()
	if s.opts.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opts.For)
		defer cancel()
	}
	var plays sync.WaitGroup
	for _, sc := range s.scenarios {
		plays.Go(func() { s.play(ctx, sc) })
	}
	plays.Wait()
	s.log.Info("simulation ended", "published", s.total.acked, "lost", s.total.lost, "skipped", s.total.skipped,
		"ran", time.Since(start).Round(time.Millisecond))
	return s.total
}

// play is one scenario's goroutine; a second one would spoil the order.
func (s *simulation) play(ctx context.Context, sc Scenario) {
	var (
		player = newPlayer(sc, s.opts)
		rate   = pace{rate: s.opts.Rate}
		pause  redisconn.Backoff
		failed bool // the last publish
		sum    totals
		batch  []message
	)
	// The only error is the context's: step returns none.
	_ = rate.run(ctx, func(n int) (int, error) {
		batch = batch[:0]
		for size := 0; len(batch) < n && size < batchBytes; {
			m := player.next()
			batch = append(batch, m)
			size += len(m.payload)
		}
		acked, _, err := s.out.publish(ctx, batch)
		sum.acked += int64(acked)
		sum.lost += int64(len(batch) - acked)
		if failed != (err != nil) {
			failed = !failed
			s.report(sc, err)
		}
		if err == nil {
			pause.Reset()
			return len(batch), nil
		}
		// A ping, so that the next messages are not lost just to find out.
		// It may succeed where PUBLISH does not (by ACL): the pause grows
		// until a publish succeeds.
		for again := true; again; again = s.out.ping(ctx) != nil {
			if pause.Sleep(ctx) != nil {
				break
			}
		}
		rate.skip(time.Now())
		return len(batch), nil
	})
	now := time.Now()
	if !rate.kept(now) {
		s.log.Warn("rate was not kept", "scenario", sc.Name, "asked", rate.rate, "reached", math.Round(rate.reached(now)*10)/10)
	}
	sum.skipped = rate.skipped
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.acked += sum.acked
	s.total.lost += sum.lost
	s.total.skipped += sum.skipped
}

// report logs the first scenario that cannot publish and the last one that can
// again: all share the same Redis.
func (s *simulation) report(sc Scenario, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failing++
		if s.failing == 1 {
			s.log.Warn("cannot publish, trying on", "scenario", sc.Name, "error", err)
		}
		return
	}
	s.failing--
	if s.failing == 0 {
		s.log.Info("publishing again")
	}
}
