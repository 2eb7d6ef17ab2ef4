package publisher

import (
	"context"
	"encoding/json"
	"time"
)

// countLimit is how long an answer waits for the number of its recipients.
const countLimit = 250 * time.Millisecond

// audience knows who listens.
type audience interface {
	// recipients tells for each target how many clients listen to its channel
	// now, over all nodes, and meet its criteria; a negative number stands for
	// "not known". It returns by the deadline of ctx, with what it knows then,
	// and may be called from many goroutines.
	recipients(ctx context.Context, targets []target) []int
}

// target is a channel, and which of its clients.
type target struct {
	channel  string
	criteria json.RawMessage // nil: all of them
}

// count asks the audience, if there is one. The answer has a number or nil for
// each target.
func (s *Server) count(targets []target) []*int {
	counts := make([]*int, len(targets))
	if s.audience == nil || len(targets) == 0 {
		return counts
	}
	ctx, cancel := context.WithTimeout(context.Background(), countLimit)
	defer cancel()
	list := s.audience.recipients(ctx, targets)
	for i := range counts {
		if i < len(list) && list[i] >= 0 {
			counts[i] = &list[i]
		} else {
			s.stats.unknown.Add(1)
		}
	}
	return counts
}
