package publisher

import (
	"context"
	"math"
	"time"
)

// tick is the shortest pause. Above 200 messages a second they go out several
// at a time, one pipeline a tick: a timer and a round trip for each would not
// keep up with tens of thousands.
const tick = 5 * time.Millisecond

// pace spreads messages evenly over time. What is late is made up for as fast
// as possible, so that short hiccups do not lower the rate; what skip was
// called for is not.
type pace struct {
	rate  float64 // messages per second, 0: as fast as possible
	limit int64   // ends after so many, 0: never

	start   time.Time
	taken   int64 // handed out by step
	skipped int64 // became due and will never be
}

// run calls step whenever messages are due, with their number, which is at most
// batchMessages. step says how many it took: at least one, or an error. run
// ends with the limit (nil), the context or the first error.
func (p *pace) run(ctx context.Context, step func(n int) (int, error)) error {
	p.start = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p.limit == 0 || p.taken < p.limit {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := time.Now()
		n := min(p.due(now), batchMessages)
		if p.limit > 0 {
			n = min(n, p.limit-p.taken)
		}
		if n > 0 {
			took, err := step(int(n))
			p.taken += int64(took)
			if err != nil {
				return err
			}
			continue
		}
		timer.Reset(p.wait(now))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// due is how many messages ought to have gone out by now and have not. The
// first is due at once.
func (p *pace) due(now time.Time) int64 {
	if p.rate == 0 {
		return batchMessages
	}
	return int64(now.Sub(p.start).Seconds()*p.rate) + 1 - p.taken - p.skipped
}

// wait is the time to the next message that becomes due.
func (p *pace) wait(now time.Time) time.Duration {
	next := float64(p.taken+p.skipped) / p.rate
	// Rounded up: a nanosecond early, and it would not be due yet.
	pause := time.Duration(math.Ceil(next*1e9)) - now.Sub(p.start)
	return max(tick, pause)
}

// skip gives up what is due by now.
func (p *pace) skip(now time.Time) {
	p.skipped += max(0, p.due(now))
}

// reached is the true rate so far.
func (p *pace) reached(now time.Time) float64 {
	return float64(p.taken) / max(now.Sub(p.start), time.Microsecond).Seconds()
}

// kept tells whether the rate was. A message that is due this very moment, a
// slow answer to the last pipeline, or a fiftieth of the time is not called a
// lower rate.
func (p *pace) kept(now time.Time) bool {
	if p.rate == 0 {
		return true
	}
	late := p.due(now)
	lag := time.Duration(float64(late) / p.rate * 1e9)
	return late <= 1 || lag <= max(250*time.Millisecond, now.Sub(p.start)/50)
}
