package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/shared/wire"
)

// tellWithin is how long after a message is handled its loss may still have to be
// told by whoever takes over. It is more than a takeover takes when NATS elects, too.
const tellWithin = 30 * time.Second

// Why a standby cannot go on exactly where the last leader stopped.
var (
	errNoPosition = errors.New("the leader does not tell its position in Redis (may it publish on " + wire.MarkChannel + "?)")
	errNotSeen    = errors.New("has not seen the leader's last mark in Redis")
	errOverflow   = errors.New("the leader is behind by more than BRIDGE_QUEUE_BYTES")
	errOtherRedis = errors.New("the leader mirrors another Redis server")
	errOtherPlan  = errors.New("the leader has other BRIDGE_PATTERNS")
	errShards     = errors.New("the shards of a Redis Cluster have no common order")
)

// find tells where the position in the stream is in this bridge's own count. The
// caller holds the lock.
func (q *queue) find(text string) (at uint64, a *anchor, err error) {
	if text == "" {
		return 0, nil, errNoPosition
	}
	switch at, a = q.order.find(text); {
	case a == nil:
		return 0, nil, fmt.Errorf("%w (%s)", errNotSeen, text)
	case at < q.gone && !q.leads:
		return 0, nil, errOverflow
	}
	return at, a, nil
}

// stored lets a standby go of what the stream has: everything up to the position. It
// returns why it is not able to take over exactly there.
func (q *queue) stored(text string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leads {
		return nil
	}
	at, _, err := q.find(text)
	switch {
	case err == nil:
		q.forget(at)
	case text == "":
		q.forget(q.order.count) // it would be kept for nothing
	}
	return err
}

// lead begins to lead after the message at the position in the stream. If that
// cannot be told here, with err saying why, it begins with what comes from now on.
// untold are subjects of which clients may not know that they lost something.
// Messages of channels without history are let go, unless the last leader has left in
// order: late ones are worthless, and they may have been sent.
func (q *queue) lead(text string, why error, inOrder bool) (from position, untold []string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at, a, err := q.find(text)
	if err == nil {
		err = why
	}
	if err != nil {
		at, a = q.order.count, nil
	}
	if q.forget(at); !inOrder {
		q.removeLive()
	}
	q.leads = true
	for subject, when := range q.untold {
		if time.Since(when) < tellWithin {
			untold = append(untold, subject)
		}
	}
	q.untold = nil
	return position{a, at}, untold, err
}

// leadAll begins to lead with everything that is kept: there is no stream yet.
func (q *queue) leadAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leads = true
}

// follow begins to stand by and returns what the bridge has yet to write as the
// leader that it was. Everything up to the number through is handled with that.
func (q *queue) follow() (rest []message, through uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest = append(rest, q.list[q.head:]...)
	q.list, q.head, q.bytes, q.leads = nil, 0, 0, false
	q.gone = max(q.order.count, q.gone)
	return rest, q.gone
}

// back returns to a standby what it has not written as a leader: another bridge
// does, or this one will again.
func (q *queue) back(list []message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := q.list[q.head:]
	q.list, q.head, q.bytes, q.leads = nil, 0, 0, false
	q.gone = q.order.count
	keep := slices.DeleteFunc(append(list, before...), func(m message) bool {
		return m.pulse != nil || m.mark != nil || m.place.at <= q.refused // with a hole after it
	})
	for i := range keep {
		if m := &keep[i]; m.nonce == nil && !m.broken {
			q.gone = min(q.gone, m.place.at-1)
		}
	}
	for _, m := range keep {
		q.append(m)
	}
}

// note remembers a loss that the leader may not have told. The caller holds the lock.
func (q *queue) note(subject string) {
	now := time.Now()
	maps.DeleteFunc(q.untold, func(_ string, at time.Time) bool { return now.Sub(at) > tellWithin })
	if q.untold == nil {
		q.untold = map[string]time.Time{}
	}
	if len(q.untold) <= maxMarked {
		q.untold[subject] = now
	}
}
