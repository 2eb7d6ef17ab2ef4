package bridge

import (
	"sync"

	"sluice/shared/wire"
)

// message is one event on its way from Redis to NATS.
type message struct {
	subject string // below the log or live prefix
	payload string
	live    bool        // history=off: straight to the nodes
	pulse   *wire.Pulse // instead of a payload
	mark    *wire.Mark  // likewise
	keep    bool        // a pulse that is kept as long as events
	number  uint64      // within the term, given by the writer
	seq     uint64      // that it should get in the stream, likewise
}

// overhead is about what a message costs beside its bytes.
const overhead = 128

func (m *message) size() int64 { return int64(len(m.subject)+len(m.payload)) + overhead }

// queue stands between the reader of Redis, which must never wait, and the
// writer to NATS, which often has to. It is bounded in bytes; the newest are
// refused.
type queue struct {
	max   int64
	ready chan struct{} // capacity 1: something was pushed

	mu    sync.Mutex // guards the following fields
	list  []message
	head  int
	bytes int64
}

func newQueue(max int64) *queue {
	return &queue{max: max, ready: make(chan struct{}, 1)}
}

// push returns false when there is no room. For a mark there always is.
func (q *queue) push(m message) bool {
	q.mu.Lock()
	if q.bytes+m.size() > q.max && m.mark == nil {
		q.mu.Unlock()
		return false
	}
	q.list = append(q.list, m)
	q.bytes += m.size()
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// pop moves up to n messages to dst.
func (q *queue) pop(dst []message, n int) []message {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.list)-q.head)
	for i := range n {
		m := &q.list[q.head+i]
		q.bytes -= m.size()
		dst = append(dst, *m)
		*m = message{}
	}
	q.head += n
	switch {
	case q.head == len(q.list):
		q.head = 0
		if q.list = q.list[:0]; cap(q.list) > 1<<16 {
			q.list = nil // a burst's memory is given back
		}
	case q.head > 1<<12 && q.head > len(q.list)/2:
		rest := copy(q.list, q.list[q.head:])
		clear(q.list[rest:])
		q.list, q.head = q.list[:rest], 0
	}
	return dst
}

// remove takes out the messages for which f is true and tells how many.
func (q *queue) remove(f func(*message) bool) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.list[:0]
	for i := q.head; i < len(q.list); i++ {
		if m := q.list[i]; f(&m) {
			n++
			q.bytes -= m.size()
		} else {
			kept = append(kept, m)
		}
	}
	clear(q.list[len(kept):])
	q.list, q.head = kept, 0
	return n
}

func (q *queue) load() (messages int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) - q.head, q.bytes
}
