package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/shared/embedded"
	"sluice/shared/wire"
	"sluice/shared/worker"
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

// While servers elect a leader questions to it are lost, and some are answered with
// "unavailable". Who is not heard asks again, and does not wait for its first question.
// The server here is real and has no JetStream; the test answers as its API would.
func TestAskedAgain(t *testing.T) {
	s := embedded.TestNATSWith(t, embedded.NATSOptions{Modify: func(o *server.Options) { o.JetStream = false }})
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var asked atomic.Int32
	sub, err := nc.Subscribe("$JS.API.STREAM.>", func(m *nats.Msg) {
		switch n := asked.Add(1); {
		case n == 1:
		case n == 2:
			_ = m.Respond([]byte(`{"error":{"code":503,"err_code":10008,"description":"temporarily unavailable"}}`))
		case strings.Contains(m.Subject, ".MSG.GET."):
			_ = m.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`))
		default:
			_ = m.Respond([]byte(`{"state":{"last_seq":7}}`))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{nc: nc, names: wire.Stream{Name: "SLUICE", Prefix: "sluice"}}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	e, err := k.readEnd(ctx)
	if err != nil || e.seq != 7 {
		t.Fatalf("end %+v, %v", e, err)
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
	// Nobody is there at all: that is told at once.
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.readEnd(ctx); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody answers: %v", err)
	}
}

// noLink is a link on which nothing ever comes.
type noLink struct{}

func (noLink) linked() bool   { return true }
func (noLink) server() string { return "" }
func (noLink) shards() bool   { return false }
func (noLink) renew(string)   {}
func (noLink) now()           {}

// The stream is without a leader for two seconds, and the bridge that leads is well: a
// standby has not seen that it is silent, and does not take over with its first look.
func TestTimeWithoutAnswersIsNotObserved(t *testing.T) {
	t.Parallel()
	s := embedded.TestNATSWith(t, embedded.NATSOptions{Modify: func(o *server.Options) { o.JetStream = false }})
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	written := time.Now()
	pulse := wire.Pulse{Epoch: "e1", Term: 1, Bridge: "other", Time: written, Patterns: "p"}.Encode()
	var away atomic.Bool
	_, err = nc.Subscribe("$JS.API.STREAM.>", func(m *nats.Msg) {
		switch {
		case away.Load():
		case strings.Contains(m.Subject, ".MSG.GET."):
			h := nats.Header{}
			h.Set(wire.Header, wire.Stamp{Term: 1, Number: 7}.String())
			b := fmt.Appendf(nil, "NATS/1.0\r\n%s: %s\r\n\r\n", wire.Header, h.Get(wire.Header))
			a, _ := json.Marshal(map[string]any{"message": stored{Subject: "sluice.log.$pulse", Seq: 7, Header: b, Data: pulse, Time: written}})
			_ = m.Respond(a)
		default:
			_ = m.Respond(fmt.Appendf(nil, `{"state":{"last_seq":7,"first_seq":1},"ts":%q}`, time.Now().UTC().Format(time.RFC3339Nano)))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := worker.Default[Config]()
	l := newLeader(nc, newQueue(1<<20), &cfg, noLink{}, embedded.TestLog(t))
	l.plan, l.stats, l.refused = "p", newStats(), &refusals{log: l.log}
	l.keeper = &keeper{nc: nc, names: wire.Stream{Name: "SLUICE", Prefix: "sluice"}, log: l.log}
	look := func() bool {
		e, err := l.look(t.Context())
		if err != nil {
			l.seen = 0
			return false
		}
		l.standBy(e)
		_, _, ok := l.decide(e)
		return ok
	}
	look()
	away.Store(true)
	time.AfterFunc(2200*time.Millisecond, func() { away.Store(false) })
	if look() {
		t.Error("takes over with its first look after the stream was away")
	}
}
