package ssenode

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// A client whose socket is full in the middle of a replay gets the rest of that step, too,
// although its loop is far beyond.
func TestFullInTheMiddleOfAReplay(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Loops = 1 })
	other := open(t, n, "/events?channel=a")
	c := unread(t, n, "/events?channel=b", 64<<10)
	settle(t, n)
	u.quiet(true)
	pad := strings.Repeat("x", 4000)
	var texts []string
	const count = 800
	for i := range count {
		texts = append(texts, fmt.Sprintf("%d %s", i, pad))
	}
	u.lose("b", texts...)
	u.publish("a", "on")
	want(t, other, "", "on")
	u.pulseOnce() // tells of b
	until(t, "its socket is full in the middle of a replay", func() bool {
		full := make(chan bool)
		n.loops[0].ask(func() {
			is := false
			n.loops[0].each(func(s *session) { is = is || s.behind && s.replaying && !s.waiting && len(s.rest) > 0 })
			full <- is
		})
		return <-full
	})
	_ = c.SetReadDeadline(time.Now().Add(3 * wait))
	_ = c.(*net.TCPConn).SetReadBuffer(1 << 20)
	r := sseclient.NewReader(afterHead(t, c))
	for i := 0; i < count; {
		ev, err := r.Next()
		if err != nil {
			t.Fatalf("at %d: %v", i, err)
		}
		if ev.Name == "gap" {
			t.Fatalf("gap %s", ev.Data)
		}
		if !ev.HasData || ev.Name != "" {
			continue
		}
		if text, _, _ := strings.Cut(ev.Data, " "); text != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", text, i)
		}
		i++
	}
}

// A client that is behind by number, with an id above what was lost.
func TestMissedBehindByNumbers(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Loops = 1 })
	s := open(t, n, "/events?channel=a&channel=b")
	settle(t, n)
	u.publish("a", "0")
	want(t, s, "", "0")
	l := n.loops[0]
	u.quiet(true)
	u.lose("b", "lost 1")
	u.publish("a", "1")
	want(t, s, "", "1")
	l.ask(func() {
		l.each(func(s *session) {
			s.fallBehind()
			s.cursor = l.n
		})
	})
	u.publish("a", "2")
	beginAnew(t, n, "b")()
	until(t, "known", func() bool { return known(n) })
	l.ask(func() {
		l.each((*session).catchUp)
	})
	want(t, s, "", "lost 1")
	want(t, s, "", "2")
}

// each calls f for all sessions.
func (l *loop) each(f func(*session)) {
	for _, list := range l.sessions.lists {
		for _, s := range list {
			f(s)
		}
	}
}

// late sends on what was stored and not sent on.
func (u *upstream) late(name, payload string, seq, before uint64) {
	u.t.Helper()
	m := nats.NewMsg(u.names.Live() + subject(u.t, name))
	m.Header.Set(wire.HeaderSequence, fmt.Sprint(seq))
	m.Header.Set(wire.HeaderLastSequence, fmt.Sprint(before))
	m.Data = []byte(payload)
	if err := u.nc.PublishMsg(m); err != nil {
		u.t.Fatal(err)
	}
	if err := u.nc.Flush(); err != nil {
		u.t.Fatal(err)
	}
}

// lateOfA lets a client replay because of c while something of its channel a comes late,
// after something later of b: seq. The replay goes on with learn.
func lateOfA(t *testing.T, change func(*Config)) (u *upstream, n *Node, s *sseclient.Stream, seq uint64, learn func()) {
	t.Helper()
	return lateOfAHeld(t, change, func(*Node) {})
}

// lateOfAHeld is lateOfA, with something done before the replay begins.
func lateOfAHeld(t *testing.T, change func(*Config), before func(*Node)) (u *upstream, n *Node, s *sseclient.Stream, seq uint64, learn func()) {
	t.Helper()
	u = newUpstream(t)
	n = startNode(t, u, change)
	s = open(t, n, "/events?channel=a&channel=b&channel=c")
	settle(t, n)
	u.quiet(true)
	first := u.publish("a", "0")
	want(t, s, "", "0")
	seq = u.lose("a", "late")
	u.publish("b", "on")
	want(t, s, "", "on")
	before(n)
	learn = beginAnew(t, n, "c")
	u.late("a", "late", seq, first)
	return u, n, s, seq, learn
}

// has waits until the node has given out the topic's message.
func has(t *testing.T, n *Node, subject string, seq uint64) {
	t.Helper()
	until(t, "it is given out", func() (is bool) {
		n.dispatch.call(t.Context(), func() { is = n.hub.topics[subject].chain.tail == seq })
		return is
	})
}

// What comes late while a client replays because of another channel is not lost when its
// own channel is begun anew then.
func TestLateWhileReplaying(t *testing.T) {
	t.Parallel()
	u, n, s, seq, learn := lateOfA(t, nil)
	has(t, n, "a", seq)
	u.lose("a", "lost")
	n.dispatch.call(t.Context(), func() { n.dispatch.relearn([]*topic{n.hub.topics["a"]}) })
	learn()
	wants(t, s, "late", "lost")
}

// Of a pattern what was given before, with ids, does not come again.
func TestLateOfAPatternWhileReplaying(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&channel=b&pattern=c:*")
	settle(t, n)
	u.quiet(true)
	u.publish("c:1", "0")
	want(t, s, "", "0")
	seq := u.lose("c:2", "late")
	u.publish("b", "on")
	want(t, s, "", "on")
	learn := beginAnew(t, n, "a")
	u.late("c:2", "late", seq, 0)
	has(t, n, "c.*", seq)
	n.dispatch.call(t.Context(), func() { n.dispatch.relearn([]*topic{n.hub.topics["c.*"]}) })
	learn()
	u.publish("b", "end")
	wants(t, s, "late", "end")
}

// What throttle= held back of a pattern is given out when that is begun anew, also to who
// replays just then.
func TestHeldWhileReplaying(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := throttling(t, u, "1h", nil)
	s := open(t, n, "/events?channel=a&pattern=board:*")
	settle(t, n)
	u.quiet(true)
	u.publish("board:1", "1")
	want(t, s, "", "1")
	u.publish("board:1", "held")
	u.publish("a", "on")
	want(t, s, "", "on")
	learn := beginAnew(t, n, "a")
	u.lose("board:2", "lost")
	d := n.dispatch
	d.call(t.Context(), func() { d.relearn([]*topic{d.hub.topics["board.*"]}) })
	learn()
	u.publish("a", "end")
	wants(t, s, "held", "lost", "end")
}

// Late, and no longer in the ring when the replay that it came in goes on.
func TestLateAndGoneWhileReplaying(t *testing.T) {
	t.Parallel()
	u, n, s, _, learn := lateOfA(t, func(c *Config) { c.SSENode.RingBytes = 1000 })
	long := strings.Repeat("x", 1500)
	u.publish("a", long)
	has(t, n, "a", u.publish("a", "last"))
	learn()
	wants(t, s, "late", long, "last")
}

// And gone from the ring already when the replay begins, as the loop is far behind.
func TestLateAndGoneBeforeReplaying(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	u, n, s, _, learn := lateOfAHeld(t, func(c *Config) { c.SSENode.RingBytes, c.SSENode.Loops = 1000, 1 }, func(n *Node) {
		n.loops[0].ask(func() { <-gate })
	})
	long := strings.Repeat("x", 1500)
	u.publish("a", long)
	has(t, n, "a", u.publish("a", "last"))
	close(gate)
	learn()
	wants(t, s, "late", long, "last")
}
