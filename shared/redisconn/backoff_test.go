package redisconn

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffBounds(t *testing.T) {
	const ms = time.Millisecond
	b := &Backoff{}
	for range 2 {
		for i, hi := range []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms} {
			if d := b.Next(); d < hi/2 || d > hi {
				t.Errorf("pause %d is %v, want %v to %v", i, d, hi/2, hi)
			}
		}
		b.Reset()
	}
	f := func(b Backoff, low, high time.Duration) {
		t.Helper()
		for range 200 {
			if d := b.Next(); d < low || d > high {
				t.Fatalf("%v, want %v to %v", d, low, high)
			}
		}
	}
	f(Backoff{Min: 3, Max: 4}, 3, 4)
	f(Backoff{Min: 3, Max: 3}, 3, 3)
	f(Backoff{Min: 10 * time.Second}, 10*time.Second, 10*time.Second)
	f(Backoff{Min: 1, Max: math.MaxInt64 - 1}, 1, math.MaxInt64-1)
}

// Without chance in it, workers that lost the same server come back together.
func TestBackoffJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[(&Backoff{}).Next()] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d different first pauses in 20", len(seen))
	}
}

func TestBackoffSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, start := &Backoff{Min: time.Second, Max: time.Second}, time.Now()
		if err := b.Sleep(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Sleep(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}
