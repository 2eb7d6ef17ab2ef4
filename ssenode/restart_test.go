package ssenode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// NATS goes away and comes back without its stream: the clients stay
// connected, events come again, and ids are of the new epoch.
func TestNATSRestart(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		s := open(t, n, "/events?channel=a&pattern=b:*")
		settle(t, n)
		u.publish("a", "before")
		if ev := want(t, s, "", "before"); !strings.HasPrefix(ev.ID, "e1-") {
			t.Errorf("id %q", ev.ID)
		}
		u.stop()
		until(t, "the node notices", func() bool { return n.ready() != nil })
		// Who connects meanwhile gets the head and waits like the others.
		late := open(t, n, "/events?channel=a")
		u.restart(n)
		u.pulse("e2")
		until(t, "the node knows the new epoch", func() bool { return *n.epoch.Load() == "e2" })
		settle(t, n)
		seq := u.publish("a", "after")
		u.publish("b:c", "after")
		wantGap(t, s, "stream-recreated")
		wantGap(t, late, "stream-recreated")
		id := wire.ID{Epoch: "e2", Seq: seq}.String()
		if ev := want(t, s, "", "after"); ev.ID != id {
			t.Errorf("id %q, want %q", ev.ID, id)
		}
		want(t, s, "", "after")
		want(t, late, "", "after")
		if n.stats.open() != 2 {
			t.Errorf("%d streams are open, want 2", n.stats.open())
		}
	})
}

// A node may start before NATS, and before there is a stream.
func TestStartsBeforeItsUpstream(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.stop()
	n := startNodeUnready(t, u, nil)
	if err := n.ready(); err == nil {
		t.Error("ready without NATS")
	}
	s := open(t, n, "/events?channel=a")
	u.restart(n)
	if err := n.ready(); err == nil {
		t.Error("ready without a pulse")
	}
	u.pulse("e9")
	until(t, "ready", func() bool { return n.ready() == nil })
	settle(t, n)
	seq := u.publish("a", "hello")
	if ev := want(t, s, "", "hello"); ev.ID != fmt.Sprintf("e9-%d", seq) {
		t.Errorf("id %q", ev.ID)
	}
}

// hold keeps a loop from doing anything until the function that it returns is called.
func hold(l *loop) (goOn func()) {
	held, done := make(chan struct{}), make(chan struct{})
	l.ask(func() { close(held); <-done })
	<-held
	return func() { close(done) }
}

// current waits until the session has got all there is.
func (j *joining) current() *joining {
	j.t.Helper()
	until(j.t, "the client has all there is", func() bool {
		is := make(chan bool)
		j.session.loop.ask(func() { is <- !j.session.behind && !j.session.unsettled })
		return <-is
	})
	return j
}

// A loop can be behind the node when the stream begins anew. It gives no id of the
// new epoch with a sequence of the old one.
func TestIDsOfALoopThatLags(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Loops = 1 })
	first := u.publish("a", "0")
	until(t, "the node has it", func() bool { return n.dispatch.head.Load() > first })
	id := idOf(n.dispatch.head.Load())
	ends, stays := joinNow(t, n, "channel=a", id).adopt().current(), joinNow(t, n, "channel=a", id).adopt().current()
	early := joinNow(t, n, "channel=a", id)
	l := n.loops[0]
	goOn := hold(l)
	position := make(chan string, 1)
	l.ask(func() {
		ends.session.endPoll()
		stays.session.given = 0
		position <- string(stays.session.position(nil))
	})
	early.adopt()
	u.pulse("e2")
	until(t, "the node knows the new epoch", func() bool { return *n.epoch.Load() == "e2" })
	n.dispatch.call(t.Context(), func() {}) // and the loop has been told
	l.ask(early.session.endPoll)
	goOn()
	if a := ends.answer(); a.LastEventID[:3] != "e1-" || a.Gap != nil {
		t.Errorf("position %s, gap %v", a.LastEventID, a.Gap)
	}
	if text := <-position; !strings.HasPrefix(text, "id: e1-") {
		t.Errorf("position %q", text)
	}
	for _, j := range []*joining{stays, early} {
		if a := j.answer(); a.LastEventID[:3] != "e2-" || a.Gap == nil || a.Gap.Reason != gapRecreated {
			t.Errorf("position %s, gap %v", a.LastEventID, a.Gap)
		}
	}
}

// A client with an id of an epoch that its loop has not heard of yet is not told that
// its id is of another one.
func TestLoopHearsOfTheEpochLater(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.stop()
	n := startNodeUnready(t, u, nil)
	j := joinNow(t, n, "channel=a", "e7-5")
	onLoop := func(f func()) {
		done := make(chan struct{})
		j.session.loop.ask(func() { f(); close(done) })
		<-done
	}
	n.dispatch.call(t.Context(), func() {
		n.dispatch.restart(&checked{pulse: wire.Pulse{Epoch: "e7"}, head: 9, first: 1})
		j.adopt() // before the loop is told
		onLoop(func() {})
		onLoop(func() {}) // it has begun what it can
	})
	until(t, "it has begun", func() (begun bool) {
		onLoop(func() { begun = j.session.start == nil })
		return begun
	})
	onLoop(func() {
		if s := j.session; s.first != 5 || s.poll().answer.Gap != nil {
			t.Errorf("begun at %d, gap %v", s.first, s.poll().answer.Gap)
		}
	})
}

// A poll that ends before it has begun answers with the id that it came with: whatever
// there is to tell of it is told the next time.
func TestPollEndsBeforeItBegins(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	for _, id := range []string{"e0-7", "garbage", idOf(1)} {
		j := joinNow(t, n, "channel=a", id)
		goOn := hold(j.session.loop)
		j.adopt()
		j.session.loop.ask(j.session.endPoll)
		goOn()
		if a := j.answer(); a.LastEventID != id || a.Gap != nil {
			t.Errorf("position %s, gap %v, came with %s", a.LastEventID, a.Gap, id)
		}
	}
}

// The stream goes on in another epoch with a lower term: the bridge knows nothing of
// those before. Its pulses are not for ever taken for old ones.
func TestEpochOfALowerTerm(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	u.quiet(true)
	send := func(epoch string, term uint64) {
		p := u.newPulse()
		p.Epoch, p.Term = epoch, term
		u.put(wire.PulseToken, p.Encode())
	}
	send("e1", 3)
	until(t, "the node knows the term", func() (is bool) {
		n.dispatch.call(t.Context(), func() { is = n.dispatch.term == 3 })
		return is
	})
	embedded.EventuallyEvery(t, "the node knows the epoch", wait, 20*time.Millisecond, func() bool {
		send("e2", 1)
		return *n.epoch.Load() == "e2"
	})
	wantGap(t, s, gapRecreated)
}

// The last pulse has expired, as no bridge writes, or a stream leader does not know of
// it yet: the one before it is no sign that the stream began anew.
func TestOlderPulseIsNoLoss(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	u.quiet(true)
	d := n.dispatch
	before := d.head.Load()
	u.pulseOnce()
	until(t, "the node has a newer one", func() bool { return d.head.Load() > before })
	stream, err := u.js.Stream(t.Context(), u.names.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), d.head.Load()); err != nil {
		t.Fatal(err)
	}
	life, checks := d.life.Load(), d.stats.checks.Load()
	d.call(t.Context(), func() { d.check("test") })
	until(t, "it was compared", func() (done bool) {
		d.call(t.Context(), func() { done = !d.checking && d.stats.checks.Load() > checks })
		return done
	})
	u.quiet(false)
	u.publish("a", "on")
	want(t, s, "", "on")
	if d.life.Load() != life {
		t.Error("the stream is held to have begun anew")
	}
}
