package bridge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// pad stores padding at the end of the stream, as a bridge that then dies.
func (r *rig) pad(n int, stamp wire.Stamp) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	after := r.state().LastSeq
	for i := range uint64(n) {
		m := nats.NewMsg(r.names.Log() + wire.FenceToken)
		m.Data = []byte("dead")
		m.Header.Set(wire.Header, stamp.String())
		m.Header.Set(headerExpected, fmt.Sprint(after+i))
		m.Header.Set(headerTTL, fenceTTL)
		a, err := r.nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := parseAck(a); err != nil {
			r.t.Fatal(err)
		}
	}
}

// expire waits until padding has gone.
func (r *rig) expire() {
	r.t.Helper()
	until(r.t, "the padding has expired", func() bool {
		for _, m := range r.messages() {
			if m.Subject == wire.FenceToken {
				return false
			}
		}
		return true
	})
}

// The last message of the stream has expired: what stands before it still tells the
// epoch and the term.
func TestEndHasExpired(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	for range 2 {
		_, stop := r.lead(nil)
		r.publish("c:0", "1")
		r.want("c:0", "1")
		stop()
	}
	before := r.lastPulse()
	r.pad(1, wire.Stamp{Term: before.Term, Number: 1})
	r.expire()
	r.lead(nil)
	if after := r.lastPulse(); after.Epoch != before.Epoch || after.Term <= before.Term {
		t.Errorf("epoch %s, term %d; before %s, %d", after.Epoch, after.Term, before.Epoch, before.Term)
	}
}

// asLeader is a bridge that led, with messages on their way, and now looks at the
// stream through the rig's connection.
func (r *rig) asLeader(under int) *leader {
	b, stop := r.lead(nil)
	stop()
	l, p := b.leader, r.lastPulse()
	l.nc, l.keeper.nc, l.keeper.js = r.nc, r.nc, r.js
	l.term, l.epoch, l.name, l.number = p.Term, p.Epoch, p.Bridge, 1000
	l.acked = r.state().LastSeq
	l.assigned = l.acked
	for i := range under {
		l.number++
		l.assigned++
		l.window.push(message{subject: "c.0", payload: fmt.Sprint(i), number: l.number, seq: l.assigned})
	}
	return l
}

// What the stream has not got stays in the window, whatever else stands at its end,
// or the epoch is a new one, which all clients are told.
func TestNothingIsTakenForStored(t *testing.T) {
	t.Parallel()
	check := func(r *rig, l *leader, under int) {
		r.t.Helper()
		e, err := l.look(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if _, epoch, _ := l.decide(e); epoch == r.lastPulse().Epoch && l.window.len() != under {
			r.t.Errorf("%d of %d are taken for stored", under-l.window.len(), under)
		}
	}
	t.Run("half a fence that has expired", func(t *testing.T) {
		r := newRig(t, embedded.NATSOptions{})
		l := r.asLeader(500)
		r.pad(300, wire.Stamp{Term: l.term, Number: 1000})
		r.expire()
		check(r, l, 500)
	})
	t.Run("many messages of somebody else's", func(t *testing.T) {
		r := newRig(t, embedded.NATSOptions{})
		l := r.asLeader(200)
		for range maxForeign + 10 {
			if err := r.nc.Publish(r.names.Log()+"foreign", []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		seq := l.acked
		until(t, "they are stored", func() bool { return r.state().LastSeq == seq+maxForeign+10 })
		check(r, l, 200)
	})
}

// The stream is deleted again and again while two bridges run: whoever goes on, terms
// do not go back, or nodes would take the new leader for an old one.
func TestStreamIsDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	for range 2 {
		_, stop := r.lead(nil)
		stop()
	}
	first, _ := r.lead(nil)
	second, _ := r.start(nil)
	hot(t, second)
	for range 4 {
		before := r.lastPulse()
		if err := r.js.DeleteStream(t.Context(), r.names.Name); err != nil {
			t.Fatal(err)
		}
		var after wire.Pulse
		until(t, "there is a new stream", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			m, err := (&keeper{nc: r.nc, names: r.names}).get(ctx, map[string]any{"last_by_subj": r.names.Log() + wire.PulseToken})
			if err == nil {
				after, err = wire.ParsePulse(m.Data)
			}
			return err == nil
		})
		if after.Term <= before.Term || after.Epoch == before.Epoch {
			t.Errorf("epoch %s, term %d; before %s, %d", after.Epoch, after.Term, before.Epoch, before.Term)
		}
		until(t, "one stands by, hot", func() bool {
			return first.leader.state.Load().hot != second.leader.state.Load().hot
		})
	}
}

// A bridge that waits leaves the stream as its leader made it.
func TestStandbyLeavesTheStreamAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	_, stop := r.lead(nil)
	made := r.info().Config.MaxMsgsPerSubject
	second, _ := r.start(func(c *Config) {
		if err := c.Routes.Decode("c:> history=5000/20m"); err != nil {
			t.Fatal(err)
		}
	})
	hot(t, second)
	if n := r.info().Config.MaxMsgsPerSubject; n != made {
		t.Errorf("%d messages a subject, want %d", n, made)
	}
	stop()
	until(t, "the second leads", second.leader.leads.Load)
	if n := r.info().Config.MaxMsgsPerSubject; n != 5000 {
		t.Errorf("%d messages a subject, want 5000", n)
	}
}
