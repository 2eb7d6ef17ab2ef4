package ssenode

import (
	"context"
	"sync"
	"time"
)

// usher lets new clients wait until the places of their topics in the stream are
// known, and then gives them to their loops: all of them in one goroutine. One for
// each would cost a storm of clients its stacks, and half a kilobyte of every client
// for good, since the runtime keeps the records of goroutines that have ended.
//
// Clients go on in the order in which they came, which is about that in which topics
// become known; none waits longer than flushLimit.
type usher struct {
	n    *Node
	kick chan struct{} // capacity 1

	mu     sync.Mutex // guards the following fields
	list   []newcomer
	closed bool
}

// newcomer is a client between its request and its loop.
type newcomer struct {
	session *session
	request *request
	wait    []chan struct{} // closed when its topics are ready
	limit   time.Time       // of the wait
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
	for {
		for list := u.take(); len(list) > 0; list = u.take() {
			for _, c := range list {
				if u.n.await(c.wait, c.limit); u.n.isAhead(c.request) {
					go u.n.adopt(c.session, c.request, nil)
				} else {
					u.n.adopt(c.session, c.request, nil)
				}
			}
		}
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
