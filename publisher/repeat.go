package publisher

import (
	"context"
	"time"
)

// sent is how a repeat went.
type sent struct {
	pace
	acked     int64
	receivers int64 // of the last one acknowledged
	err       error
	end       time.Time
}

// repeat publishes m n times, one pipeline after the other: what waits for an
// answer is bounded by a batch.
func repeat(ctx context.Context, out sender, m message, n int64, rate float64) sent {
	s := sent{pace: pace{rate: rate, limit: n}}
	room := max(1, batchBytes/max(1, len(m.payload)))
	var batch []message
	s.err = s.run(ctx, func(due int) (int, error) {
		due = min(due, room)
		for len(batch) < due {
			batch = append(batch, m)
		}
		acked, receivers, err := out.publish(ctx, batch[:due])
		if acked > 0 {
			s.acked += int64(acked)
			s.receivers = receivers
		}
		return due, err
	})
	s.end = time.Now()
	return s
}
