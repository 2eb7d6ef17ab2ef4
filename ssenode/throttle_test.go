package ssenode

import (
	"fmt"
	"testing"
	"time"

	"sluice/shared/route"
	"sluice/ssenode/engine"
)

// throttle=: the first at once, then at most one in the time, the latest.
func TestThrottle(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		// All that is published in one go has to fit into the time.
		table, err := route.Parse("board:* throttle=1s; live:* throttle=1s history=off")
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, u, func(c *Config) { c.Routes = *table; c.SSENode.Engine = engine })
		s := open(t, n, "/events?channel=board:1")
		mixed := open(t, n, "/events?channel=board:1&channel=chat")
		wild := open(t, n, "/events?pattern=board:*")
		settle(t, n)
		first := u.publish("board:1", "1")
		last := u.burst("board:1", numbers(2, 20)...)
		u.publish("board:2", "of another channel")
		chat := u.publish("chat", "hello")
		if ev := want(t, s, "", "1"); ev.ID != idOf(first) {
			t.Errorf("id %s", ev.ID)
		}
		want(t, mixed, "", "1")
		// While an older event is owed nothing newer carries an id.
		if ev := want(t, mixed, "", "hello"); ev.HasID {
			t.Errorf("id %s of %d while an event is held back", ev.ID, chat)
		}
		wants(t, wild, "1", "of another channel", "20")
		ev := want(t, s, "", "20")
		if ev.ID != idOf(last) {
			t.Errorf("id %s, want %s", ev.ID, idOf(last))
		}
		if ev := want(t, mixed, "", "20"); ev.ID != idOf(last) {
			t.Errorf("id %s, want %s", ev.ID, idOf(last))
		}
		// Throttled, then gone: what was held back comes when it returns.
		u.publish("board:1", "21")
		u.publish("board:1", "22")
		s.Close()
		u.publish("board:1", "23")
		want(t, resume(t, n, "/events?channel=board:1", ev.ID), "", "23")
		other := startNode(t, u, func(c *Config) { c.Routes = *table; c.SSENode.Engine = engine })
		back := resume(t, other, "/events?channel=board:1", ev.ID)
		want(t, back, "", "23")
		u.publish("board:1", "24")
		want(t, back, "", "24")

		l := open(t, n, "/events?channel=live:1")
		for i := range 5 {
			u.live("live:1", fmt.Sprint(i))
		}
		wants(t, l, "0", "4")
	})
}

// burst publishes without waiting for each to be stored, and returns the last sequence.
func (u *upstream) burst(name string, payloads ...string) (last uint64) {
	u.t.Helper()
	u.mu.Lock() // no pulse comes between
	defer u.mu.Unlock()
	sub, n := subject(u.t, name), len(payloads)-1
	for _, payload := range payloads[:n] {
		if err := u.nc.Publish(u.names.Log()+sub, []byte(payload)); err != nil {
			u.t.Fatal(err)
		}
	}
	last = u.put(sub, []byte(payloads[n]))
	for i := range payloads {
		u.digest.Add(sub, last-uint64(n-i))
	}
	return last
}

// throttling starts a node that holds back what follows within the time.
func throttling(t *testing.T, u *upstream, interval string, change func(*Config)) *Node {
	t.Helper()
	table, err := route.Parse("board:* throttle=" + interval)
	if err != nil {
		t.Fatal(err)
	}
	return startNode(t, u, func(c *Config) {
		c.Routes = *table
		if change != nil {
			change(c)
		}
	})
}

// beginAnew begins topics of a node anew; their places in the stream are not learned
// until the function that it returns is called.
func beginAnew(t *testing.T, n *Node, subjects ...string) (learn func()) {
	t.Helper()
	d := n.dispatch
	d.call(t.Context(), func() {
		var topics []*topic
		for _, s := range subjects {
			topics = append(topics, d.hub.topics[s])
		}
		d.checking = true
		d.relearn(topics)
	})
	return func() {
		d.call(t.Context(), func() { d.checked(&checked{life: d.life.Load()}) })
	}
}

// What is held back when its topic is begun anew is not lost, nor comes twice what
// was given before, also when nothing newer comes.
func TestHeldBackWhenBegunAnew(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := throttling(t, u, "1h", nil)
	s := open(t, n, "/events?channel=board:1")
	mixed := open(t, n, "/events?channel=chat&channel=board:1")
	wild := open(t, n, "/events?pattern=board:*&channel=chat")
	settle(t, n)
	u.publish("board:1", "1")
	u.publish("board:1", "superseded")
	held := u.publish("board:1", "2")
	u.publish("board:2", "other")
	last := u.publish("chat", "on")
	wants(t, s, "1")
	wants(t, mixed, "1", "on")
	wants(t, wild, "1", "other", "on")
	until(t, "a pulse was checked", func() bool { return n.dispatch.head.Load() > last })
	u.quiet(true)
	beginAnew(t, n, "board.1", "board.*")()
	until(t, "the channels are known again", func() bool { return known(n) })
	u.publish("chat", "after")
	wants(t, s, "2")
	wants(t, mixed, "2", "after")
	wants(t, wild, "2", "after")
	u.quiet(false)
	settle(t, n)
	// It has come; an id of now vouches for it.
	u.publish("chat", "later")
	if ev := want(t, mixed, "", "later"); seqOf(t, ev.ID) < held {
		t.Errorf("id %q after %d", ev.ID, held)
	}
}

// While an event is held back no heartbeat vouches for it, whatever pulses say.
func TestHeartbeatsWhileHeldBack(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := throttling(t, u, "1h", func(c *Config) { c.SSENode.Heartbeat = 250 * time.Millisecond })
	s := open(t, n, "/events?channel=board:1")
	settle(t, n)
	u.publish("board:1", "1")
	want(t, s, "", "1")
	held := u.publish("board:1", "2")
	until(t, "a pulse was checked", func() bool { return n.dispatch.head.Load() > held })
	for beats := 0; beats < 3; {
		ev, err := s.NextWithin(wait)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Comment == "heartbeat" {
			beats++
		}
	}
	id := s.LastEventID()
	s.Close()
	if seqOf(t, id) >= held {
		t.Errorf("position %s, and %d was not given", id, held)
	}
	want(t, resume(t, startNode(t, u, nil), "/events?channel=board:1", id), "", "2")
}

// What is held back of one channel is not lost either when another one is begun anew
// and the client goes by sequences for a while.
func TestHeldBackWhileReplaying(t *testing.T) {
	t.Parallel()
	t.Run("in the ring", func(t *testing.T) {
		t.Parallel()
		heldBackWhileReplaying(t, false)
	})
	t.Run("evicted", func(t *testing.T) {
		t.Parallel()
		heldBackWhileReplaying(t, true)
	})
}

func heldBackWhileReplaying(t *testing.T, evicted bool) {
	u := newUpstream(t)
	n := throttling(t, u, "1s", func(c *Config) {
		if evicted {
			c.SSENode.RingAge = engine.TickEvery
		}
	})
	s := open(t, n, "/events?channel=a&channel=board:1")
	wild := open(t, n, "/events?channel=a&pattern=board:*")
	settle(t, n)
	u.publish("board:1", "1")
	wants(t, s, "1")
	wants(t, wild, "1")
	u.quiet(true)
	held := u.publish("board:1", "2")
	u.publish("board:2", "other")
	u.publish("a", "on")
	wants(t, s, "on")
	wants(t, wild, "other", "on")
	learn := beginAnew(t, n, "a")
	// It comes while the clients wait for the place of the other channel.
	until(t, "it was given out", func() (is bool) {
		n.dispatch.call(t.Context(), func() {
			r := &n.hub.topics["board.1"].ring
			is = r.from == held || !evicted && r.len > 0 && r.at(int(r.len)-1).seq == held
		})
		return is
	})
	learn()
	wants(t, s, "2") // out of the stream when it is evicted
	if evicted {
		wantGap(t, wild, gapSlow) // which tells no channel of a pattern apart
	} else {
		wants(t, wild, "2")
	}
	u.publish("a", "after")
	wants(t, s, "after")
	wants(t, wild, "after")
}

// A client that is behind goes by numbers, and by number what was held back comes
// after what is newer: nothing before it vouches for it.
func TestHeldBackBehind(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := throttling(t, u, "500ms", nil)
	other := open(t, n, "/events?channel=a&channel=board:1")
	settle(t, n)
	first := u.publish("board:1", "1")
	wants(t, other, "1")
	j := joinNow(t, n, "channel=a&channel=board:1", idOf(first)).adopt()
	loop := j.session.loop
	until(t, "it has all there is", func() bool {
		current := make(chan bool)
		loop.ask(func() { current <- !j.session.behind && !j.session.unsettled })
		return <-current
	})
	loop.ask(func() {
		j.session.fallBehind()
		j.session.cursor = loop.n
	})
	held := u.publish("board:1", "2")
	u.publish("a", "on")
	wants(t, other, "on", "2")
	loop.ask(j.session.catchUp)
	for _, e := range j.answer().Events {
		if e.Data == "on" && e.ID != nil {
			t.Errorf("id %s before %d", *e.ID, held)
		}
	}
}
