package redisconn

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives the pauses between tries: each about twice as long as the one
// before, random within a factor of two, so that many workers which lost the
// same server do not come back at the same moment. The zero value goes from
// 100 ms to 5 s. It is not for concurrent use.
type Backoff struct {
	// Min and Max bound every pause. Default 100 ms and 5 s; a Max below Min
	// counts as Min.
	Min, Max time.Duration

	ceiling time.Duration
}

// Next returns the next pause, between Min and Max. From then on that many
// doublings have passed until Reset.
func (b *Backoff) Next() time.Duration {
	low, high := b.Min, b.Max
	if low <= 0 {
		low = 100 * time.Millisecond
	}
	if high <= 0 {
		high = 5 * time.Second
	}
	high = max(low, high)
	// Compare before doubling, which could overflow.
	if b.ceiling = max(b.ceiling, low); b.ceiling > high/2 {
		b.ceiling = high
	} else {
		b.ceiling *= 2
	}
	floor := max(low, b.ceiling/2)
	return floor + rand.N(b.ceiling-floor+1)
}

// Reset starts again from Min: call it after a success.
func (b *Backoff) Reset() { b.ceiling = 0 }

// Sleep waits for Next, or until ctx ends, and then returns ctx's error.
func (b *Backoff) Sleep(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
