package ssenode

import (
	"sync"

	"github.com/nats-io/nats.go"
)

// slowSubs counts what nats.go drops when the inbox is full. It tells only when
// a subscription begins to drop, so those subscriptions are asked again for a
// while.
type slowSubs struct {
	mu   sync.Mutex // guards subs
	subs map[*nats.Subscription]*slowSub
}

type slowSub struct {
	counted int // of what it dropped
	quiet   int // times asked since it last dropped something
}

// forgetAfter is how often a subscription is asked in vain before it is
// forgotten.
const forgetAfter = 40

func (s *slowSubs) add(sub *nats.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = map[*nats.Subscription]*slowSub{}
	}
	if s.subs[sub] == nil {
		s.subs[sub] = &slowSub{}
	} else {
		s.subs[sub].quiet = 0
	}
}

// count returns how many messages were dropped since the last call.
func (s *slowSubs) count() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub, st := range s.subs {
		total, err := sub.Dropped()
		switch {
		case err == nil && total > st.counted:
			n += uint64(total - st.counted)
			st.counted, st.quiet = total, 0
		default:
			// Kept even then, with what was counted: nats.go's figure is the
			// subscription's total.
			if st.quiet++; err != nil || st.quiet > forgetAfter && st.counted == 0 {
				delete(s.subs, sub)
			}
		}
	}
	return n
}
