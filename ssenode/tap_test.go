package ssenode

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/control"
	"sluice/shared/wire"
)

// tapping is somebody who taps channels.
type tapping struct {
	t     *testing.T
	u     *upstream
	asker *control.Asker
	id    string
	told  chan wire.Tapped
}

func newTapping(t *testing.T, u *upstream, nodes int) *tapping {
	t.Helper()
	x := &tapping{t: t, u: u, asker: outsider(t, u, nodes), id: "tester", told: make(chan wire.Tapped, 1000)}
	sub, err := u.nc.Subscribe(u.names.Taps(x.id), func(m *nats.Msg) {
		var r wire.Tapped
		if err := wire.DecodeControl(m.Data, &r); err != nil {
			t.Error(err)
		}
		x.told <- r
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return x
}

// tap taps a channel on all nodes, and tells how many clients each has of it.
func (x *tapping) tap(id, name string) (clients map[string]int) {
	x.t.Helper()
	until(x.t, "all nodes tap it", func() bool {
		var missing []string
		clients, missing = x.ask(id, name)
		return len(missing) == 0
	})
	return clients
}

// ask is tap for once: nodes may refuse, or be too slow.
func (x *tapping) ask(id, name string) (clients map[string]int, missing []string) {
	x.t.Helper()
	answers, err := x.asker.Ask(context.Background(), wire.VerbTap, wire.Tap{ID: id, Subject: subject(x.t, name)})
	if err != nil {
		x.t.Fatal(err)
	}
	clients = map[string]int{}
	for _, a := range answers.List {
		var r wire.Tapping
		if err := wire.DecodeControl(a.Body, &r); err != nil {
			x.t.Fatal(err)
		}
		clients[a.Name] = r.Clients
	}
	return clients, answers.Missing
}

func (x *tapping) next() wire.Tapped {
	x.t.Helper()
	select {
	case r := <-x.told:
		return r
	case <-time.After(wait):
		x.t.Fatal("nothing is told")
		return wire.Tapped{}
	}
}

// A node tells of each message of a tapped channel when it had it and how many clients
// got it; of no other channel, and of none when nobody asks any more.
func TestTap(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine = engine
			c.Routes = routes(t, "board throttle=1h; off history=off")
		})
		for _, path := range []string{
			"/events?channel=x&channel=board&channel=off", "/events?channel=x", "/events?pattern=*", "/events?channel=x&pattern=x:*", "/events?channel=y",
		} {
			open(t, n, path+"&role=user")
		}
		settle(t, n)
		x := newTapping(t, u, 1)
		if got := x.tap(x.id, "x"); got["n1"] != 4 {
			t.Errorf("clients %v", got)
		}
		began := time.Now()
		u.publish("y", "of another")
		seq := u.publish("x", "1")
		// The channel and the pattern bring a copy each; they come in any order.
		sum := map[int]bool{}
		for range 2 {
			r := x.next()
			sum[r.Given] = true
			stored, err := time.Parse(time.RFC3339Nano, r.Stored)
			if r.Node != "n1" || r.Seq != seq || r.Hash != wire.TapHash([]byte("1")) || r.Behind+r.Others+r.More+r.Missed != 0 || r.Held ||
				err != nil || stored.Before(began.Add(-time.Second)) || r.At < began.UnixNano() || r.Out < r.At || r.Out > time.Now().UnixNano() {
				t.Errorf("%+v", r)
			}
		}
		if !sum[3] || !sum[1] {
			t.Errorf("given to %v", sum)
		}
		u.publish("x", told("data", `{"role":"admin"}`))
		for range 2 {
			if r := x.next(); r.Given != 0 || r.Others != 3 && r.Others != 1 {
				t.Errorf("not for them: %+v", r)
			}
		}
		x.tap(x.id, "off") // the same tap, of another channel
		u.live("off", "2")
		for range 2 {
			if r := x.next(); r.Given != 1 || r.Seq != 0 || r.Stored != "" {
				t.Errorf("without history: %+v", r)
			}
		}
		x.tap(x.id, "board")
		first := u.publish("board", "3")
		second := u.publish("board", "4")
		// Each of the two sees both in order; which of them is sooner is not said.
		copies := map[uint64]int{}
		for range 4 {
			r := x.next()
			copies[r.Seq]++
			if r.Held != (r.Seq == second) {
				t.Errorf("with throttle=, of %d and %d: %+v", first, second, r)
			}
		}
		if copies[first] != 2 || copies[second] != 2 {
			t.Errorf("copies %v", copies)
		}
		if list := n.dispatch.taps.list.Load(); list == nil || len(*list) != 1 {
			t.Errorf("taps %v", list)
		}
		until(t, "the tap has ended", func() bool { return n.dispatch.taps.list.Load() == nil })
		if d := time.Since(began); d < wire.TapLease {
			t.Errorf("it has ended after %s", d)
		}
		u.publish("x", "5")
		x.tap(x.id, "z")
		u.publish("z", "end")
		if r := x.next(); r.Hash != wire.TapHash([]byte("end")) {
			t.Errorf("told afterwards: %+v", r)
		}
	})
}

// A client that is behind is told apart.
func TestTapBehind(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	stalled(t, n, "/events?channel=loud")
	u.flood(n, "loud", 900, "")
	until(t, "it is behind", func() bool { return behind(n) == 1 })
	s := open(t, n, "/events?channel=loud")
	until(t, "the other is not", func() bool { return behind(n) == 1 })
	x := newTapping(t, u, 1)
	x.tap(x.id, "loud")
	u.publish("loud", "1")
	want(t, s, "", "1")
	if r := x.next(); r.Given != 1 || r.Behind != 1 {
		t.Errorf("%+v", r)
	}
}

// Taps are few, and tell of so many messages in a second; the rest is counted.
func TestTapIsBounded(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=x")
	settle(t, n)
	x := newTapping(t, u, 1)
	for _, bad := range []string{"", "a.b", "a*", ">", "A"} {
		if _, missing := x.ask(bad, "x"); len(missing) != 1 {
			t.Errorf("id %q is taken", bad)
		}
	}
	x.tap(x.id, "x")
	for i := 1; i < mostTaps; i++ {
		x.tap(fmt.Sprint(i), "x")
	}
	if _, missing := x.ask("more", "x"); len(missing) != 1 {
		t.Error("too many taps are taken")
	}
	x.tap("1", "x") // one that is there may go on
	const messages = 3 * mostTapped
	for i := range messages {
		if err := u.nc.Publish(u.names.Live()+"x", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		want(t, s, "", fmt.Sprint(i))
	}
	told := time.Now().Unix()
	until(t, "one more may be told of, in another second", func() bool { return time.Now().Unix() > told })
	x.tap(x.id, "x")
	u.live("x", "last")
	count := 0
	for {
		r := x.next()
		if count += 1 + r.Missed; r.Hash == wire.TapHash([]byte("last")) {
			break
		}
	}
	if count != messages+1 {
		t.Errorf("told of, and missed, are %d, want %d", count, messages+1)
	}
}
