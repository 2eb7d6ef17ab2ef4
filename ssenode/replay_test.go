package ssenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/route"
	"sluice/shared/wire"
)

// joining is a client between its request and the moment when its loop takes it
// over. A poll shows best what it gets: events with their ids.
type joining struct {
	t       testing.TB
	n       *Node
	request *request
	session *session
	wait    []chan struct{}
}

// joinNow lets a client join its topics and no more.
func joinNow(t testing.TB, n *Node, query, id string) *joining {
	t.Helper()
	r, err := parse("", query, 16)
	if err != nil {
		t.Fatal(err)
	}
	r.lastEventID = id
	j := &joining{t: t, n: n, request: r}
	if j.session, j.wait, err = n.join(r, newCollector(id == "")); err != nil {
		t.Fatal(err)
	}
	return j
}

// adopt goes on with it.
func (j *joining) adopt() *joining {
	j.t.Helper()
	if j.n.prepare(j.request, j.session) {
		j.n.resolve(j.session)
	}
	if !j.session.loop.adopt(j.session) {
		j.t.Fatal("the node ends")
	}
	return j
}

// answer waits for what it gets.
func (j *joining) answer() pollAnswer {
	j.t.Helper()
	select {
	case <-j.session.poll().done:
	case <-time.After(wait):
		j.t.Fatal("no answer")
	}
	return j.session.poll().answer
}

func texts(a pollAnswer) (list []string) {
	for _, e := range a.Events {
		list = append(list, e.Channel+"="+e.Data)
	}
	return list
}

// joinUnlearned lets a client join topics of which one is new to the node, whose
// place in the stream is not asked for until goOn is called.
func joinUnlearned(t testing.TB, n *Node, query, id, fresh string) (topic *topic, goOn func() *joining) {
	t.Helper()
	pattern, err := channel.ParsePattern(fresh)
	if err != nil {
		t.Fatal(err)
	}
	n.dispatch.learner.mu.Lock()
	joined := make(chan *joining, 1)
	go func() { joined <- joinNow(t, n, query, id) }()
	until(t, "the topic is there", func() bool {
		n.hub.mu.RLock()
		defer n.hub.mu.RUnlock()
		topic = n.hub.topics[pattern.Subject()]
		return topic != nil
	})
	if err := n.nc.Flush(); err != nil { // what is published from now on comes
		t.Fatal(err)
	}
	return topic, func() *joining {
		n.dispatch.learner.mu.Unlock()
		return <-joined
	}
}

// What a client missed is in the stream for a channel that is new to the node,
// and still to come for another one that it has. They are given in one order,
// or an id would vouch for what has not been given.
func TestReplayAheadOfTheNode(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	other := open(t, n, "/events?channel=known")
	settle(t, n)
	before := u.publish("known", "0")
	want(t, other, "", "0")
	_, goOn := joinUnlearned(t, n, "channel=new&channel=known", idOf(before), "new")
	u.publish("known", "1")
	last := u.publish("new", "2")
	want(t, other, "", "1") // after the client joined
	j := goOn()
	settle(t, n)
	until(t, "the node is as far", func() bool { return n.dispatch.head.Load() > last })
	a := j.adopt().answer()
	if fmt.Sprint(texts(a)) != "[known=1 new=2]" || seqOf(t, a.LastEventID) < last {
		t.Errorf("%s, position %s", texts(a), a.LastEventID)
	}
}

// A topic is not begun on while a pulse vouches for more than is known of it.
func TestLearnedBeforeThePulse(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	a, goOn := joinUnlearned(t, n, "channel=a", "", "a")
	known := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.ring.known != 0
	}
	seq := u.publish("a", "1")
	until(t, "a pulse was checked", func() bool { return n.dispatch.head.Load() > seq })
	learned := make(chan bool)
	go n.dispatch.call(context.Background(), func() {
		go func() { learned <- known() }() // while it is asked for again, which has to wait
		n.dispatch.learned([]learnt{{topic: a, upTo: seq - 1}})
		learned <- known()
	})
	before := <-learned
	goOn().adopt()
	if after := <-learned; before || after {
		t.Errorf("the topic is taken to be complete: %v, %v", before, after)
	}
	until(t, "it is known in the end", known)
}

// A gap mark that comes while a client is about to be taken over by its loop is
// told to it.
func TestMarkWhileJoining(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a")
	settle(t, n)
	id := idOf(u.publish("a", "0"))
	want(t, s, "", "0")
	fresh, back := joinNow(t, n, "channel=a", ""), joinNow(t, n, "channel=a", id)
	u.store(wire.GapToken, wire.Mark{Epoch: "e1", Term: 1, Reason: wire.GapUpstream, Time: time.Now()}.Encode())
	last := u.publish("a", "1")
	until(t, "the node has it", func() bool { return n.dispatch.head.Load() > last })
	for _, j := range []*joining{fresh, back} {
		if a := j.adopt().answer(); a.Gap == nil || a.Gap.Reason != gapUpstream || fmt.Sprint(texts(a)) != "[a=1]" {
			t.Errorf("%q: %s, gap %+v", j.request.lastEventID, texts(a), a.Gap)
		}
	}
}

// A poll that ends before its history is there answers with the position that it
// was given, not with the node's.
func TestPollEndsBeforeItsHistory(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	before := u.publish("a", "0")
	last := u.publish("a", "1")
	until(t, "the node has it", func() bool { return n.dispatch.head.Load() > last })
	_, goOn := joinUnlearned(t, n, "channel=a", idOf(before), "a")
	u.quiet(true)
	if err := u.server.Stop(); err != nil { // so that it stays unknown
		t.Fatal(err)
	}
	j := goOn()
	j.adopt()
	j.session.loop.ask(j.session.endPoll)
	if a := j.answer(); a.LastEventID != idOf(before) && len(a.Events) == 0 {
		t.Errorf("position %s without any event, want %s", a.LastEventID, idOf(before))
	}
}

// A topic whose frames all were given up to the cursor has come no further than
// its last one: what comes later is below where others are.
func TestAdvance(t *testing.T) {
	s := &session{subs: make([]sub, 3), lag: &lag{whole: 30}}
	s.replays()
	r := &reach{through: 50, ends: []uint64{math.MaxUint64, 50, 70}, lasts: []uint64{10, 50, 60}}
	s.advance(nil, r, 50)
	if s.progress[0].at != 10 || s.progress[1].at != 50 || s.progress[2].at != 50 {
		t.Errorf("topics stand at %d, %d, %d; want 10, 50, 50", s.progress[0].at, s.progress[1].at, s.progress[2].at)
	}
	if s.pos != 50 || s.seq != 30 {
		t.Errorf("position %d, of which %d is certain; want 50, 30", s.pos, s.seq)
	}
}

// A replay is told from where a topic stands what the stream has no more of it, also if
// it was further on before the topic was learned anew.
func TestExpiredFromWhereTheTopicStands(t *testing.T) {
	tp := &topic{ring: ring{known: 1, from: 20}, past: &past{stretches: []*stretch{{after: 5, through: 20, short: 8}}}}
	s := &session{loop: &loop{stats: newStats(slog.New(slog.DiscardHandler)), epoch: "e"}, subs: []sub{{topic: tp}}, behind: true, lag: &lag{}}
	s.replays()
	s.progress[0].at, s.pos = 5, 12
	_, _, lost := s.step(nil, 0)
	s.lose(lost)
	if text := string(s.rest); !strings.Contains(text, `"from":"e-5","to":"e-8"`) {
		t.Errorf("told %q", text)
	}
	s.rest = nil
	s.lose(&loss{reason: gapUpstream, to: 9}) // of a mark that is told late
	if text := string(s.rest); !strings.Contains(text, `"from":"e-9","to":"e-9"`) {
		t.Errorf("told %q", text)
	}
}

// When the connection to NATS is made anew in the middle of an answer, only the
// rest of it comes. That must not be taken for all.
func TestTornAnswer(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	h := newHistory(u.nc, wire.Stream{Name: "TORN", Prefix: "sluice"})
	answer := func(parts ...[2]int) {
		sub, err := u.nc.Subscribe("$JS.API.DIRECT.GET.TORN", func(m *nats.Msg) {
			for _, p := range parts {
				r := nats.NewMsg(m.Reply)
				r.Header.Set(wire.HeaderLastSequence, fmt.Sprint(p[0]))
				if p[1] == 0 {
					r.Header.Set("Status", "204")
				} else {
					r.Header.Set(wire.HeaderSequence, fmt.Sprint(p[1]))
					r.Header.Set("Nats-Subject", "sluice.log.a")
				}
				_ = u.nc.PublishMsg(r)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		n := 0
		_, err = h.many(ctx, getRequest{Seq: 1, Batch: 9, NextFor: "sluice.log.a"}, func(record) { n++ })
		_ = sub.Unsubscribe()
		whole := parts[0][0] == 0
		for i := 1; i < len(parts); i++ {
			whole = whole && parts[i][0] == parts[i-1][1]
		}
		if whole != (err == nil) || !whole && !errors.Is(err, errTorn) || whole && n != len(parts)-1 {
			t.Errorf("%v: %d messages, error %v", parts, n, err)
		}
	}
	answer([2]int{0, 3}, [2]int{3, 7}, [2]int{7, 0})
	answer([2]int{3, 7}, [2]int{7, 0})
	answer([2]int{0, 3}, [2]int{7, 9}, [2]int{9, 0})
	answer([2]int{0, 3}, [2]int{7, 0})
	answer([2]int{7, 0})
}

// The stream began anew and has grown past the ids of before: none of them is
// taken for one of now, by whichever node.
func TestOldIDsAfterTheStreamHasGrown(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&pattern=b:*")
	settle(t, n)
	u.publish("b:1", "old")
	want(t, s, "", "old")
	var old []string
	for i := range 5 {
		u.publish("a", fmt.Sprint("old ", i))
		old = append(old, want(t, s, "", fmt.Sprint("old ", i)).ID)
	}
	u.stop()
	until(t, "both notice", func() bool { return !u.nc.IsConnected() && !n.nc.IsConnected() })
	u.restart(n)
	u.pulse("e2")
	u.publish("b:1", "new")
	for i := range 50 { // also what came before the node knew
		u.publish("a", fmt.Sprint("new ", i))
	}
	wantGap(t, s, gapRecreated)
	want(t, s, "", "new")
	for i := range 50 {
		want(t, s, "", fmt.Sprint("new ", i))
	}
	for _, n := range []*Node{n, startNode(t, u, nil)} {
		for _, id := range old {
			s := resume(t, n, "/events?channel=a", id)
			if g := wantGap(t, s, gapRecreated); g.From == nil || *g.From != id {
				t.Errorf("gap %+v for id %s", g, id)
			}
			u.publish("a", id)
			want(t, s, "", id)
			s.Close()
		}
	}
}

// Who connects to a node that does not know the stream yet is not given its
// past, but told that there was something.
func TestConnectedBeforeTheStreamWasFound(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.publish("a", "of before")
	u.stop()
	n := startNodeUnready(t, u, func(c *Config) { c.Routes = route.Table{} })
	s := open(t, n, "/events?channel=a&channel=b")
	u.restart()
	u.publish("a", "while nobody knew")
	u.pulse("e7")
	if g := wantGap(t, s, gapUpstream); fmt.Sprint(g.Channels) != "[a]" {
		t.Errorf("gap %+v", g)
	}
	u.publish("a", "live")
	want(t, s, "", "live")
}

// Who comes back gets the ids of what it missed at once: on a node that has its
// channels also of what no pulse has vouched for yet, on any other up to the
// last pulse.
func TestIDsInAReplay(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	here := startNode(t, u, nil)
	other := open(t, here, "/events?channel=a&channel=b")
	settle(t, here)
	before := u.publish("a", "0")
	first := u.publish("b", "1")
	there := startNode(t, u, nil)
	for _, n := range []*Node{here, there} {
		until(t, "the node is as far", func() bool { return n.dispatch.head.Load() > first })
	}
	u.quiet(true)
	second := u.publish("a", "2")
	wants(t, other, "0", "1", "2")
	s := resume(t, here, "/events?channel=a&channel=b", idOf(before))
	for i, seq := range []uint64{first, second} {
		if ev := want(t, s, "", fmt.Sprint(i+1)); ev.ID != idOf(seq) {
			t.Errorf("id %q, want %q", ev.ID, idOf(seq))
		}
	}
	s = resume(t, there, "/events?channel=a&channel=b", idOf(before))
	for i, id := range []string{idOf(first), ""} {
		if ev := want(t, s, "", fmt.Sprint(i+1)); ev.ID != id {
			t.Errorf("id %q, want %q", ev.ID, id)
		}
	}
}

// A hole in one channel of a pattern: what was given of the others does not come
// again.
func TestHoleInAPattern(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?pattern=x:*&channel=y")
	settle(t, n)
	before := n.stats.relearned.Load() // a pulse may have been missed at the start
	u.quiet(true)
	for i := range 10 {
		u.publish(fmt.Sprint("x:", i%3), fmt.Sprint(i))
		want(t, s, "", fmt.Sprint(i))
	}
	u.lose("x:1", "lost")
	u.publish("y", "y")
	want(t, s, "", "y")
	u.publish("x:1", "after")
	u.publish("x:0", "on")
	wants(t, s, "lost", "after", "on")
	u.publish("x:2", "last")
	want(t, s, "", "last")
	if r := n.stats.relearned.Load() - before; r != 1 {
		t.Errorf("%d topics begun anew, want one", r)
	}
}

// What was kept of a channel whose clients left before its place was known is
// not counted for ever.
func TestEarlyMessagesAreForgotten(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Linger = 0 })
	_, goOn := joinUnlearned(t, n, "channel=a", "", "a")
	for i := range 10 {
		u.publish("a", fmt.Sprint(i))
	}
	early := func() (bytes int) {
		n.dispatch.call(context.Background(), func() { bytes = n.dispatch.early })
		return bytes
	}
	until(t, "messages are kept", func() bool { return early() > 10 })
	n.hub.mu.Lock()
	n.hub.topics["a"].refs--
	n.hub.topics["a"].idle = time.Now().UnixNano()
	n.hub.idle = append(n.hub.idle, n.hub.topics["a"])
	n.hub.mu.Unlock()
	until(t, "the topic has gone", func() bool {
		n.hub.mu.RLock()
		defer n.hub.mu.RUnlock()
		return n.hub.topics["a"] == nil
	})
	j := goOn()
	n.hub.mu.Lock()
	j.session.subs[0].topic.refs++ // for its leaving
	n.hub.mu.Unlock()
	n.hub.leave(j.session)
	until(t, "they are forgotten", func() bool { return early() == 0 })
}

// Events without history that come while a pattern's place in the stream is being
// learned, the first time or again, are neither lost nor told as lost.
func TestLiveWhileLearning(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	table, err := route.Parse("x:live history=off")
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, u, func(c *Config) { c.Routes = *table })
	old := u.publish("x:old", "of before")
	until(t, "a pulse was checked", func() bool { return n.dispatch.head.Load() > old })
	other := open(t, n, "/events?channel=x:live")
	live := func(text string) { // the channel and the pattern bring a copy each
		t.Helper()
		before := n.stats.messages.Load()
		u.live("x:live", text)
		want(t, other, "", text)
		until(t, "both have come", func() bool { return n.stats.messages.Load() >= before+2 })
	}
	wild, goOn := joinUnlearned(t, n, "pattern=x:*", "", "x:*")
	live("1")
	j := goOn()
	settle(t, n)
	if a := j.adopt().answer(); a.Gap != nil || fmt.Sprint(texts(a)) != "[x:live=1]" {
		t.Errorf("%s, gap %+v", texts(a), a.Gap)
	}
	s := open(t, n, "/events?pattern=x:*")
	settle(t, n)
	d := n.dispatch
	u.lose("x:a", "2")
	d.call(t.Context(), func() { // what is learned anew waits
		d.checking = true
		d.relearn([]*topic{wild})
	})
	live("3")
	d.call(t.Context(), func() {
		d.checking = false
		for _, t := range d.unlearned {
			d.learner.add(t)
		}
		d.unlearned = nil
	})
	wants(t, s, "3", "2")
}

// A client can be behind at the number of the newest frame. When a ring is emptied
// because something before that number is missing, such a client must not take
// itself for complete.
func TestEmptiedRingIsNoticed(t *testing.T) {
	d := &dispatcher{hub: &hub{n: 7}}
	p, err := channel.Exact("a")
	if err != nil {
		t.Fatal(err)
	}
	tp := &topic{pattern: p, literal: true}
	tp.ready.Store(&always)
	tp.chain.had = 5
	d.known(tp, 6)
	if _, _, ok := tp.ring.after(nil, 7, d.hub.n, chunk); ok {
		t.Error("the client at number 7 misses nothing")
	}
	if tp.ring.known <= d.hub.n {
		t.Errorf("known from number %d on, and numbers have come to %d", tp.ring.known, d.hub.n)
	}
}
