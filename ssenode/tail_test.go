package ssenode

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/wire"
)

// lose stores messages without the server sending them on, as a server does that
// dies between the two. It returns the last one's sequence.
func (u *upstream) lose(name string, payloads ...string) (seq uint64) {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.republish(false)
	defer u.republish(true)
	sub := subject(u.t, name)
	for _, payload := range payloads {
		seq = u.put(sub, []byte(payload))
		u.digest.Add(sub, seq)
	}
	return seq
}

// known tells whether the places of all topics are.
func known(n *Node) bool {
	n.hub.mu.RLock()
	defer n.hub.mu.RUnlock()
	for _, t := range n.hub.topics {
		t.mu.Lock()
		is := t.ring.known != 0
		t.mu.Unlock()
		if !is {
			return false
		}
	}
	return true
}

func (u *upstream) republish(on bool) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s, err := u.js.Stream(ctx, u.names.Name)
	if err != nil {
		u.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.RePublish = nil
	if on {
		cfg.RePublish = &jetstream.RePublish{Source: u.names.Log() + ">", Destination: u.names.Live() + ">"}
	}
	if _, err := u.js.UpdateStream(ctx, cfg); err != nil {
		u.t.Fatal(err)
	}
}

// Messages that were stored and never sent on reach connected clients all the
// same: the next pulse tells of them. Ids stay safe.
func TestLostTail(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	const path = "/events?channel=a&channel=b&pattern=c:*"
	s := open(t, n, path)
	settle(t, n)
	u.publish("a", "1")
	want(t, s, "", "1")
	// One pulse is enough, and the second vouches for ids again.
	u.quiet(true)
	u.lose("a", "lost 1")
	u.lose("c:1", "lost 2")
	u.pulseOnce()
	wants(t, s, "lost 1", "lost 2")
	until(t, "the channels are known again", func() bool { return n.stats.relearned.Load() == 2 && known(n) })
	u.pulseOnce()
	settle(t, n)
	// With the next message on the channel the chain shows it, before any pulse.
	u.quiet(true)
	u.lose("a", "lost 3")
	u.publish("a", "after")
	wants(t, s, "lost 3", "after")
	u.quiet(false)
	// One that comes after a later event has no id, and that event's id has been given:
	// whoever comes back with it to this node is told, and gets both.
	settle(t, n)
	u.quiet(true)
	u.lose("a", "late")
	u.publish("b", "later")
	later := want(t, s, "", "later")
	u.quiet(false)
	if ev := want(t, s, "", "late"); ev.ID != "" || later.ID == "" {
		t.Errorf("ids %q of the later and %q of the late one", later.ID, ev.ID)
	}
	settle(t, n)
	back := resume(t, n, path, later.ID)
	if g := wantGap(t, back, gapUpstream); g.From == nil || *g.From != later.ID {
		t.Errorf("gap %+v", g)
	}
	wants(t, back, "late", "later")
	back.Close()
	until(t, "its ids are given again", func() bool {
		fresh := 0
		onLoops(n, func(l *loop) { fresh += len(l.fresh) })
		return fresh == 0
	})
	seq := u.publish("b", "on")
	if ev := want(t, s, "", "on"); ev.ID != idOf(seq) {
		t.Errorf("id %q, want %q", ev.ID, idOf(seq))
	}
	if r := n.stats.relearned.Load(); r != 4 { // twice by a pulse, once by the chain, and c:*
		t.Errorf("%d channels begun anew, want 4", r)
	}
}

// After trouble the bridge writes a marked pulse. An id from between it and the
// last certain pulse may vouch for what never came: the client is told, and gets
// everything after that pulse.
func TestIDsBeforeAMarkedPulse(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&channel=b")
	settle(t, n)
	u.quiet(true)
	u.mu.Lock()
	since := u.put(wire.PulseToken, u.newPulse().Encode())
	u.mu.Unlock()
	u.publish("a", "1")
	safe := want(t, s, "", "1").ID
	u.lose("a", "lost")
	u.publish("b", "2")
	id := want(t, s, "", "2").ID
	u.mu.Lock()
	u.digest.Reset() // the bridge does not know any more
	p := u.newPulse()
	p.Marked, p.Since = true, since
	u.put(wire.PulseToken, p.Encode())
	u.mu.Unlock()
	want(t, s, "", "lost")
	u.quiet(false)
	settle(t, n)
	u.publish("b", "3")
	want(t, s, "", "3")
	other := startNode(t, u, nil)
	for _, n := range []*Node{n, other} {
		for _, id := range []string{id, safe} {
			s := resume(t, n, "/events?channel=a&channel=b", id)
			if g := wantGap(t, s, gapUpstream); *g.From != id {
				t.Errorf("gap from %s, want %s", *g.From, id)
			}
			wants(t, s, "1", "lost", "2", "3")
		}
		s := resume(t, n, "/events?channel=a&channel=b", idOf(since))
		wants(t, s, "1", "lost", "2", "3")
	}
}
