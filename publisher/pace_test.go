package publisher

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSender stands for Redis in tests with a fake clock.
type fakeSender struct {
	took    time.Duration // by each publish
	fail    func() error  // nil: never
	pings   func() error  // nil: like fail
	sent    []message
	at      []time.Time
	largest int
	tries   int // publishes and pings that failed
}

func (f *fakeSender) publish(_ context.Context, batch []message) (int, int64, error) {
	time.Sleep(f.took) // slow work, on the clock of a synctest bubble: no time passes
	f.largest = max(f.largest, len(batch))
	if f.fail != nil {
		if err := f.fail(); err != nil {
			f.tries++
			return 0, 0, err
		}
	}
	f.sent = append(f.sent, batch...)
	for range batch {
		f.at = append(f.at, time.Now())
	}
	return len(batch), 1, nil
}

func (f *fakeSender) ping(context.Context) error {
	ask := f.pings
	if ask == nil {
		ask = f.fail
	}
	if ask == nil {
		return nil
	}
	err := ask()
	if err != nil {
		f.tries++
	}
	return err
}

// The numbers are exact by the clock of the bubble, at low and at high rates.
func TestPaceKeepsTheRate(t *testing.T) {
	f := func(rate float64, d time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			p := pace{rate: rate}
			largest := 0
			p.run(ctx, func(n int) (int, error) {
				largest = max(largest, n)
				return n, nil
			})
			want := rate * d.Seconds()
			// The last tick may or may not come before the end; the first is early.
			if got, slack := float64(p.taken), rate*tick.Seconds()+1; got < want-slack || got > want+1 {
				t.Errorf("rate %v for %s: %v, want %v", rate, d, got, want)
			}
			if !p.kept(time.Now()) {
				t.Errorf("rate %v for %s: called not kept", rate, d)
			}
			// Evenly: never more at a time than a tick's worth.
			if limit := int(rate*tick.Seconds()) + 1; largest > limit {
				t.Errorf("rate %v: %d at a time, want at most %d", rate, largest, limit)
			}
		})
	}
	f(0.5, time.Minute)
	f(5, time.Minute)
	f(7.3, time.Minute)
	f(199, 10*time.Second)
	f(1000, 10*time.Second)
	f(50_000, 3*time.Second)
}

// A hiccup is made up for; what is skipped is not.
func TestPaceCatchesUp(t *testing.T) {
	f := func(skip bool, want int64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
			defer cancel()
			p := pace{rate: 100}
			p.run(ctx, func(n int) (int, error) {
				if p.taken == 100 {
					time.Sleep(5 * time.Second) // the hiccup, on the bubble's clock
					if skip {
						p.skip(time.Now())
					}
				}
				return n, nil
			})
			if diff := p.taken - want; diff < -2 || diff > 2 || !p.kept(time.Now()) {
				t.Errorf("skip %v: %d messages and %d skipped, kept %v; want %d", skip, p.taken, p.skipped, p.kept(time.Now()), want)
			}
		})
	}
	f(false, 1000)
	f(true, 500)
}

func TestPaceTellsWhenTheRateIsNotKept(t *testing.T) {
	f := func(took time.Duration, rate, wantReached float64, wantKept bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := repeat(t.Context(), &fakeSender{took: took}, message{"c", nil}, 20_000, rate)
			if got := s.kept(s.end); got != wantKept {
				t.Errorf("%s a batch at %v/s: kept %v", took, rate, got)
			}
			if got := s.reached(s.end); got < 0.95*wantReached || got > 1.02*wantReached {
				t.Errorf("%s a batch at %v/s: reached %v, want %v", took, rate, got, wantReached)
			}
		})
	}
	f(0, 10_000, 10_000, true)
	f(3*time.Millisecond, 10_000, 10_000, true)
	f(100*time.Millisecond, 10_000, 5000, false) // 512 each tenth of a second
	f(100*time.Millisecond, 5000, 5000, true)
	f(100*time.Millisecond, 0, 5000, true) // nothing was asked for
}
