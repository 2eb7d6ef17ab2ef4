package bridge

import (
	"sync"
	"time"

	"sluice/shared/wire"
)

// message is one event on its way from Redis to NATS.
type message struct {
	subject string // below the log or live prefix
	payload string
	live    bool        // history=off: straight to the nodes
	pulse   *wire.Pulse // instead of a payload
	mark    *wire.Mark  // likewise
	nonce   *anchor     // not sent: from here on positions are told from this one
	broken  bool        // not sent: from here on no position can be told
	refused bool        // not sent: clients of the subject are to be told of a loss
	keep    bool        // a pulse that is kept as long as events
	number  uint64      // within the term, given by the writer
	seq     uint64      // that it should get in the stream, likewise
	place   position    // how far everything is handled with this message
}

// overhead is about what a message costs beside its bytes.
const overhead = 160

func (m *message) size() int64 { return int64(len(m.subject)+len(m.payload)) + overhead }

// queue stands between the reader of Redis, which must never wait, and the
// writer to NATS, which often has to. It is bounded in bytes.
//
// While the bridge leads, the newest messages are refused when it is full. While
// it stands by, the queue keeps what the leader may not have written yet, and the
// oldest are let go.
type queue struct {
	max   int64
	ready chan struct{} // capacity 1: something was pushed

	mu    sync.Mutex // guards the following fields
	list  []message
	head  int
	bytes int64
	order order
	leads bool
	full  bool // a leader's: takes nothing
	// gone is up to where, of a standby, messages are not kept any more.
	gone uint64
	// refused is the last message for which a leader had no room.
	refused uint64
	// untold is, of a standby, which subjects lost a message that it has let go of,
	// and when: the leader may die before it has told the clients.
	untold map[string]time.Time
}

func newQueue(max int64) *queue {
	return &queue{max: max, ready: make(chan struct{}, 1)}
}

// push counts a message from Redis and takes it. It returns false when there is no
// room.
func (q *queue) push(m message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.order.count++
	m.place.at = q.order.count
	if m.place.at <= q.gone {
		return true // the last leader was further ahead than Redis is here
	}
	// Once full, it takes nothing until there is room for more than a message: so
	// one gap mark tells of one long hole, and not many of many.
	q.full = q.leads && (q.bytes+m.size() > q.max || q.full && q.bytes > q.max/4*3)
	if q.full {
		q.refused = q.order.count
		return false
	}
	q.append(m)
	return true
}

// pass counts a message from Redis that is refused. It tells whether the bridge
// leads.
func (q *queue) pass() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.order.count++
	return q.leads
}

// tell takes a gap mark, for which there always is room. Only the leader writes
// them: a standby's is left out.
func (q *queue) tell(m *wire.Mark) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last := q.last(); !q.leads || last != nil && last.mark != nil && last.mark.Reason == m.Reason {
		return
	}
	q.append(message{subject: wire.GapToken, mark: m, place: position{at: q.order.count}})
}

// nonce notes that one came from Redis, sent by this bridge at a time or, if that is
// zero, by another.
func (q *queue) nonce(text string, sent time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.order.add(text)
	if a != nil {
		a.sent = sent
	}
	m := message{nonce: a, broken: a == nil, place: position{at: q.order.count}}
	if last := q.last(); last != nil && (last.nonce != nil || last.broken) {
		*last = m // nothing stands between them
		return
	}
	q.append(m)
}

// last is the newest message, nil if there is none. The caller holds the lock.
func (q *queue) last() *message {
	if q.head == len(q.list) {
		return nil
	}
	return &q.list[len(q.list)-1]
}

// broken notes that from here on messages from Redis may be missing: what a standby
// keeps is of no use any more.
func (q *queue) broken() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.order.broken()
	// What the last leader was ahead with does not come any more.
	q.order.count = max(q.order.count, q.gone)
	if q.leads {
		q.append(message{broken: true, place: position{at: q.order.count}})
		return
	}
	q.forget(q.order.count)
}

// append adds a message; a standby lets the oldest go for it. The caller holds the
// lock.
func (q *queue) append(m message) {
	q.list = append(q.list, m)
	q.bytes += m.size()
	for !q.leads && q.bytes > q.max {
		q.drop()
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// drop lets go of the first message. The caller holds the lock.
func (q *queue) drop() {
	m := &q.list[q.head]
	q.bytes -= m.size()
	q.gone = max(q.gone, m.place.at)
	if m.refused {
		q.note(m.subject)
	}
	*m = message{}
	q.head++
	q.tidy()
}

// forget lets go of all messages up to the one with the number. The caller holds
// the lock.
func (q *queue) forget(at uint64) {
	for q.head < len(q.list) && q.list[q.head].place.at <= at {
		q.drop()
	}
	q.gone = max(q.gone, at)
}

// tidy gives back what the list does not need. The caller holds the lock.
func (q *queue) tidy() {
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
}

// pop moves up to n messages of a leader's queue to dst. Everything up to the
// number through is handled once they are.
func (q *queue) pop(dst []message, n int) (list []message, through uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.leads {
		return dst, 0
	}
	n = min(n, len(q.list)-q.head)
	for i := range n {
		m := &q.list[q.head+i]
		q.bytes -= m.size()
		dst = append(dst, *m)
		through = m.place.at
		*m = message{}
	}
	q.head += n
	q.tidy()
	if len(q.list) == 0 {
		// Also what was refused after the last one, or came to the last leader only.
		through = max(q.order.count, q.gone)
	}
	return dst, through
}

// dropLive takes out the messages without history and tells how many.
func (q *queue) dropLive() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.removeLive()
}

// removeLive is dropLive. The caller holds the lock.
func (q *queue) removeLive() (n int) {
	kept := q.list[:0]
	for i := q.head; i < len(q.list); i++ {
		if m := q.list[i]; m.live {
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

func (q *queue) leading() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leads
}

func (q *queue) load() (messages int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) - q.head, q.bytes
}
