package publisher

import (
	"context"
	"encoding/json"
	"time"
)

// countLimit is how long an answer waits for the number of its recipients.
const countLimit = 250 * time.Millisecond

// Audience knows who listens.
type Audience interface {
	// Recipients tells for each target how many clients listen to its channel
	// now, over all nodes, and meet its criteria; a negative number stands for
	// "not known". It returns by the deadline of ctx, with what it knows then,
	// and may be called from many goroutines.
	Recipients(ctx context.Context, targets []Target) []int
}

// Target is a channel, and which of its clients.
type Target struct {
	Channel  string
	Criteria json.RawMessage // nil: all of them
}

// count asks the audience, if there is one. The answer has a number or nil for
// each target.
func (s *Server) count(targets []Target) []*int {
	counts := make([]*int, len(targets))
	if s.Audience == nil || len(targets) == 0 {
		return counts
	}
	ctx, cancel := context.WithTimeout(context.Background(), countLimit)
	defer cancel()
	list := s.Audience.Recipients(ctx, targets)
	for i := range counts {
		if i < len(list) && list[i] >= 0 {
			counts[i] = &list[i]
		} else {
			s.stats.unknown.Add(1)
		}
	}
	return counts
}
