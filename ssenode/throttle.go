package ssenode

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"sluice/shared/wire"
)

// throttled holds back events of channels with throttle=<interval>: the first
// goes at once, of those that follow within the interval only the latest, at
// its end, or when the topic is begun anew before. It is owned by the dispatcher's
// goroutine.
type throttled struct {
	channels map[throttleKey]*throttle
	queue    throttleQueue
	armed    time.Time
}

type throttleKey struct {
	topic   *topic
	subject string
}

// throttle is one channel of one topic that had an event within its interval.
type throttle struct {
	throttleKey
	interval time.Duration
	due      time.Time // end of the interval
	// The event held back, if seq is not 0 or there is data.
	held bool
	seq  uint64
	data []byte
	at   int // in the queue
}

// keep returns false when the event goes now, and else holds it back.
func (q *throttled) keep(d *dispatcher, t *topic, subject string, seq uint64, data []byte, interval time.Duration, now time.Time) bool {
	key := throttleKey{t, subject}
	c := q.channels[key]
	if c == nil {
		if q.channels == nil {
			q.channels = map[throttleKey]*throttle{}
		}
		c = &throttle{throttleKey: key, interval: interval, due: now.Add(interval)}
		q.channels[key] = c
		heap.Push(&q.queue, c)
		return false
	}
	if c.held {
		d.stats.dropped[superseded].Add(1)
	} else {
		c.held = true
		d.tell(func(l *loop) {
			lt := t.on(l)
			lt.owed, lt.held = lt.owed+1, seq
		})
	}
	c.seq, c.data = seq, data
	return true
}

// due gives out what was held back until now.
func (q *throttled) due(d *dispatcher, now time.Time) {
	for len(q.queue) > 0 && !q.queue[0].due.After(now) {
		c := q.queue[0]
		if !c.held || d.hub.topics[c.topic.subject()] != c.topic {
			heap.Pop(&q.queue)
			delete(q.channels, c.throttleKey)
			continue
		}
		q.give(d, c, now)
	}
}

// give gives out what is held back of a channel, and begins its next interval.
func (q *throttled) give(d *dispatcher, c *throttle, now time.Time) {
	c.held, c.due = false, now.Add(c.interval)
	heap.Fix(&q.queue, c.at)
	t, seq, data := c.topic, c.seq, c.data
	c.data = nil
	// Clients were given no newer id meanwhile, so their position does not go
	// back; with this one nothing is owed any more.
	d.tell(func(l *loop) { t.on(l).owed-- })
	d.emit(t, c.subject, seq, wire.ID{Epoch: d.epochNow(), Seq: seq}, data, d.hub.routes.MatchSubject(c.subject), now)
}

// release gives out at once what is held back of a topic that is about to be begun
// anew: all that has come of it was given out then, so clients need nothing of it
// that may be in no ring. After a reconnection it is called for all topics, so it
// looks at the topic's own channels only, where there is one.
func (q *throttled) release(d *dispatcher, t *topic, now time.Time) {
	var list []*throttle
	switch {
	case !t.throttles:
	case t.literal:
		if c := q.channels[throttleKey{t, t.subject()}]; c != nil && c.held {
			list = append(list, c)
		}
	default:
		for key, c := range q.channels {
			if key.topic == t && c.held {
				list = append(list, c)
			}
		}
		slices.SortFunc(list, func(a, b *throttle) int { return cmp.Compare(a.seq, b.seq) })
	}
	for _, c := range list {
		q.give(d, c, now)
	}
}

// arm sets the timer for the next that is due.
func (q *throttled) arm(timer *time.Timer) {
	if len(q.queue) == 0 || q.queue[0].due.Equal(q.armed) {
		return
	}
	q.armed = q.queue[0].due
	timer.Reset(time.Until(q.armed))
}

// throttleQueue is a heap by due time.
type throttleQueue []*throttle

func (q throttleQueue) Len() int           { return len(q) }
func (q throttleQueue) Less(i, k int) bool { return q[i].due.Before(q[k].due) }

func (q throttleQueue) Swap(i, k int) {
	q[i], q[k] = q[k], q[i]
	q[i].at, q[k].at = i, k
}

func (q *throttleQueue) Push(x any) {
	c := x.(*throttle)
	c.at = len(*q)
	*q = append(*q, c)
}

func (q *throttleQueue) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return c
}
