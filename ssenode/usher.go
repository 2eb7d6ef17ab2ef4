package ssenode

import (
	"context"
	"slices"
	"sync"
	"time"
)

// usher lets new clients wait until the places of their topics in the stream are
// known, and then gives them to their loops: all of them in one goroutine. One for
// each would cost a storm of clients its stacks, and half a kilobyte of every client
// for good, since the runtime keeps the records of goroutines that have ended.
//
// Clients go on in the order in which they came, which is about that in which topics
// become known, so a look at the oldest is enough mostly. While that one has to wait
// for longer, as when its topic is asked for again, the others overtake it. None waits
// longer than flushLimit.
type usher struct {
	n    *Node
	kick chan struct{} // capacity 1

	mu     sync.Mutex // guards the following fields
	list   []newcomer
	closed bool
}

// overtakeAfter is how long clients wait for the oldest before all of them are looked
// at: rarely enough for a hundred thousand of them.
const overtakeAfter = 50 * time.Millisecond

// newcomer is a client between its request and its loop.
type newcomer struct {
	session *session
	request *request
	wait    []chan struct{} // closed when its topics are ready
	limit   time.Time       // of the wait
}

// over tells whether it need not wait, or has done so for long enough.
func (c *newcomer) over(now time.Time) bool {
	for _, ready := range c.wait {
		select {
		case <-ready:
		default:
			return !now.Before(c.limit)
		}
	}
	return true
}

// seat takes over a client; it never blocks. It returns false when the node ends.
func (u *usher) seat(s *session, r *request, wait []chan struct{}) bool {
	u.mu.Lock()
	ok := !u.closed
	if ok {
		u.list = append(u.list, newcomer{s, r, wait, time.Now().Add(flushLimit)})
	}
	u.mu.Unlock()
	select {
	case u.kick <- struct{}{}:
	default:
	}
	return ok
}

func (u *usher) take() []newcomer {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.list
	u.list = nil
	return list
}

// run ends with the context, and when all that came have been given to loops, which
// send them away then.
func (u *usher) run(ctx context.Context) {
	var waiting []newcomer // oldest first
	for {
		for waiting = append(waiting, u.take()...); len(waiting) > 0; waiting = append(waiting, u.take()...) {
			if c := &waiting[0]; u.n.await(c.wait, time.Now().Add(overtakeAfter)) || c.over(time.Now()) {
				u.n.adopt(c.session, c.request, nil)
				*c = newcomer{}
				waiting = waiting[1:]
				continue
			}
			now := time.Now()
			waiting = slices.DeleteFunc(waiting, func(c newcomer) bool {
				over := c.over(now)
				if over {
					u.n.adopt(c.session, c.request, nil)
				}
				return over
			})
		}
		waiting = nil
		select {
		case <-u.kick:
		case <-ctx.Done():
			u.mu.Lock()
			u.closed = len(u.list) == 0
			ended := u.closed
			u.mu.Unlock()
			if ended {
				return
			}
		}
	}
}
