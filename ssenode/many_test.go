package ssenode

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sluice/shared/channel"
	"sluice/shared/route"
)

// What happens at each pulse, or for each topic after a reconnection, must not
// look at all topics: of a million of them it would be all that a node does.

// newTopics makes topics of a dispatcher without NATS.
func newTopics(t *testing.T, n int) (*dispatcher, []*topic) {
	t.Helper()
	d := &dispatcher{
		hub: &hub{topics: map[string]*topic{}, routes: &route.Table{}}, stats: newStats(nil),
		unsettled: map[*topic]struct{}{}, epoch: &atomic.Pointer[string]{},
	}
	d.learner = &learner{d: d, kick: make(chan struct{}, 1)}
	var list []*topic
	for i := range n {
		p, err := channel.Exact(fmt.Sprintf("user:%d", i))
		if err != nil {
			t.Fatal(err)
		}
		tp := &topic{pattern: p, literal: true, throttles: true}
		tp.ready.Store(&always)
		d.hub.topics[tp.subject()] = tp
		list = append(list, tp)
	}
	return d, list
}

// A topic that is begun anew is not among those that each pulse looks at until
// its place is known; then the next pulse settles it.
func TestPulseLooksAtLearned(t *testing.T) {
	d, list := newTopics(t, 10)
	for _, tp := range list {
		tp.chain.learned = true
		d.unsettle(tp, 1)
	}
	d.relearn(list)
	if len(d.unsettled) > 0 {
		t.Errorf("a pulse looks at %d topics whose place is not known", len(d.unsettled))
	}
	d.learned([]learnt{{topic: list[3], upTo: 5}})
	if len(d.unsettled) != 1 {
		t.Errorf("a pulse looks at %d topics, want the one that was learned", len(d.unsettled))
	}
	d.settle(5)
	if list[3].settled.Load() != 0 {
		t.Error("settled by a pulse from before its place was known")
	}
	d.settle(6)
	for i, tp := range list {
		if is := tp.settled.Load() != 0; is != (i == 3) {
			t.Errorf("topic %d settled: %v", i, is)
		}
	}
	if len(d.unsettled) > 0 {
		t.Errorf("%d topics are still looked at", len(d.unsettled))
	}
}

// What is held back of a topic that is begun anew is given out, what is held back of
// others stays and comes in its time.
func TestThrottleReleases(t *testing.T) {
	d, list := newTopics(t, 100)
	now := time.Now()
	for i, tp := range list {
		for range 2 { // the second one is held back
			d.throttled.keep(d, tp, tp.subject(), 1, nil, time.Duration(100-i)*time.Second, now)
		}
	}
	for _, tp := range list[:50] {
		d.throttled.release(d, tp, now.Add(time.Hour))
		d.throttled.release(d, tp, now.Add(time.Hour)) // nothing is left of it
	}
	if d.hub.n != 50 {
		t.Errorf("%d events were given out, want 50", d.hub.n)
	}
	for i, c := range d.throttled.queue {
		if c.at != i || d.throttled.channels[c.throttleKey] != c {
			t.Errorf("place %d of the queue has the channel of place %d", i, c.at)
		}
	}
	if first := d.throttled.queue[0].topic; first != list[99] {
		t.Errorf("%s is due first, want %s", first.name(), list[99].name())
	}
	if d.throttled.due(d, now.Add(time.Minute)); d.hub.n != 100 {
		t.Errorf("%d events were given out in the end, want 100", d.hub.n)
	}
}

// A learner whose answers come too late asks for fewer topics at a time, and for more
// again when they are in time; none is left out.
func TestLearnerPace(t *testing.T) {
	d, list := newTopics(t, 3000)
	for _, tp := range list {
		d.learner.add(tp)
	}
	taken := map[*topic]bool{}
	for i, c := range []struct {
		late bool
		want int
	}{{true, 1000}, {true, 500}, {false, 250}, {false, 500}, {false, 750}} {
		batch := d.learner.take()
		if len(batch) != c.want {
			t.Errorf("batch %d has %d topics, want %d", i, len(batch), c.want)
		}
		for _, tp := range batch {
			taken[tp] = true
		}
		d.learner.pace(c.late)
	}
	if len(taken) != len(list) {
		t.Errorf("%d of %d topics were taken", len(taken), len(list))
	}
	for range 100 {
		d.learner.pace(true)
	}
	d.learner.add(list[0])
	if batch := d.learner.take(); len(batch) != 1 {
		t.Errorf("at its slowest it takes %d topics", len(batch))
	}
}

// Channels without history never have to be asked for again, whatever pulses came
// meanwhile, and so are no reason to ask for fewer.
func TestLearnerPaceOfLive(t *testing.T) {
	d, list := newTopics(t, 2)
	d.head.Store(9)
	list[0].live = true
	for _, c := range []struct {
		places []learnt
		want   bool
	}{
		{[]learnt{{topic: list[0], upTo: 8}}, false},
		{[]learnt{{topic: list[0], upTo: 8}, {topic: list[1], upTo: 9}}, false},
		{[]learnt{{topic: list[0], upTo: 8}, {topic: list[1], upTo: 8}}, true},
	} {
		if is := d.late(c.places); is != c.want {
			t.Errorf("late: %v, want %v", is, c.want)
		}
	}
}
