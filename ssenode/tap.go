package ssenode

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/wire"
)

const (
	// mostTaps bounds the taps of a node at a time, mostTapped the messages in a second
	// that it tells of, all together.
	mostTaps   = 8
	mostTapped = 200
	// tapAtMost is how many clients of a loop are looked at for one message.
	tapAtMost = 10_000
	// tapQueue bounds what waits to be sent.
	tapQueue = 1024
)

// tap is somebody who wants to know what becomes of the messages of a channel.
type tap struct {
	id, subject string
	until       time.Time
}

// taps are those of a node. Where there are none, a message costs one look at a pointer.
type taps struct {
	list atomic.Pointer[[]tap] // nil for none; replaced when it changes
	out  chan tapReport

	mu sync.Mutex // held while the list is changed

	missed atomic.Int64 // messages that could not be told of since the last report

	// Owned by the dispatcher.
	second int64
	told   int
}

// tapReport is what is sent to those who tap a subject.
type tapReport struct {
	ids  []string
	body wire.Tapped
}

// add notes a tap, or that it goes on; false if there are too many.
func (x *taps) add(one tap) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []tap
	if have := x.list.Load(); have != nil {
		list = slices.DeleteFunc(slices.Clone(*have), func(t tap) bool { return t.id == one.id })
	}
	if len(list) >= mostTaps {
		return false
	}
	list = append(list, one)
	x.list.Store(&list)
	return true
}

// expire lets go of taps that nobody has asked for of late.
func (x *taps) expire(now time.Time) {
	if x.list.Load() == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(*x.list.Load()), func(t tap) bool { return now.After(t.until) })
	if len(list) == 0 {
		x.list.Store(nil)
		return
	}
	x.list.Store(&list)
}

// of are the ids of those who tap a subject.
func (x *taps) of(subject string) (ids []string) {
	list := x.list.Load()
	if list == nil {
		return nil
	}
	for _, t := range *list {
		if t.subject == subject {
			ids = append(ids, t.id)
		}
	}
	return ids
}

// mayTell tells whether one more may be told of in this second.
func (x *taps) mayTell(now time.Time) bool {
	if s := now.Unix(); s != x.second {
		x.second, x.told = s, 0
	}
	if x.told == mostTapped {
		x.missed.Add(1)
		return false
	}
	x.told++
	return true
}

var errTap = errors.New("want an id of letters and digits")

// askedToTap begins to tell of a channel's messages, or goes on for another while.
func (n *Node) askedToTap(body json.RawMessage, answer func(any)) error {
	var q wire.Tap
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	if !wire.ValidTapID(q.ID) {
		return errTap
	}
	if _, err := channel.FromSubject(q.Subject); err != nil {
		return err
	}
	if !n.dispatch.taps.add(tap{q.ID, q.Subject, time.Now().Add(wire.TapLease)}) {
		return fmt.Errorf("%w: %d taps", errCannot, mostTaps)
	}
	clients := 0
	n.hub.mu.RLock()
	defer n.hub.mu.RUnlock()
	if t := n.hub.topics[q.Subject]; t != nil {
		clients += int(t.refs)
	}
	n.hub.wild.match([]byte(q.Subject), func(t *topic) { clients += int(t.refs) })
	answer(wire.Tapping{Clients: clients})
	return nil
}

// tapped handles a message of a topic while there are taps: when the loops have done
// with it, those who tap its channel are told.
func (d *dispatcher) tapped(t *topic, m *nats.Msg, now time.Time) {
	ids := d.taps.of(m.Subject[len(d.hub.stream.Live()):])
	if len(ids) == 0 || !d.taps.mayTell(now) {
		d.message(t, m, now)
		return
	}
	r := tapReport{ids: ids, body: wire.Tapped{
		Seq: number(m.Header, wire.HeaderSequence), Hash: wire.TapHash(m.Data), Stored: lastOf(m.Header["Nats-Time-Stamp"]),
		At: time.Now().UnixNano(),
	}}
	before := d.hub.n
	d.message(t, m, now)
	f := d.last
	// Something else may have been given out instead, that was held back till now.
	if d.hub.n == before || f.seq != r.body.Seq || f.subject != m.Subject[len(d.hub.stream.Live()):] {
		r.body.Held = true
		d.taps.send(r)
		return
	}
	var mu sync.Mutex // guards the following field, and the report's numbers
	left := len(d.loops)
	d.tell(func(l *loop) {
		given, behind, others, more := l.tapped(t, f)
		mu.Lock()
		defer mu.Unlock()
		b := &r.body
		b.Given, b.Behind, b.Others, b.More = b.Given+given, b.Behind+behind, b.Others+others, b.More+more
		if left--; left == 0 {
			b.Out = time.Now().UnixNano()
			d.taps.send(r)
		}
	})
}

// send never waits.
func (x *taps) send(r tapReport) {
	missed := x.missed.Swap(0)
	r.body.Missed = int(missed)
	select {
	case x.out <- r:
	default:
		x.missed.Add(missed + 1)
	}
}

// tapped counts what became of a frame that the loop has just given to the topic's
// clients.
func (l *loop) tapped(t *topic, f *frame) (given, behind, others, more int) {
	lt := t.byLoop[l.index].local
	if lt == nil {
		return 0, 0, 0, 0
	}
	for i, c := range lt.clients {
		switch {
		case i == tapAtMost:
			return given, behind, others, len(lt.clients) - i
		case c.closed:
		case !c.takes(int(c.sub), f):
			others++
		case c.behind:
			behind++
		default:
			given++
		}
	}
	return given, behind, others, 0
}
