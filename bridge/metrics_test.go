package bridge

import (
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// Messages and bytes are counted on their way in and out, with history and without.
func TestBytesAreCounted(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(func(c *Config) { c.Routes = routes(t, "off:* history=off") })
	r.publish("a", "four")
	r.want("a", "four")
	r.publish("a", "")
	r.want("a", "")
	r.publish("off:a", "seven77")
	r.want("off:a", "seven77")
	st := b.stats
	until(t, "all is acknowledged", func() bool { return st.stored.Load() == 2 })
	if got := [3]uint64{st.receivedBytes.Load(), st.storedBytes.Load(), st.liveBytes.Load()}; got != [3]uint64{11, 4, 7} {
		t.Errorf("%d bytes received, %d stored, %d live; want 11, 4 and 7", got[0], got[1], got[2])
	}
}

// A pulse says how long the last mark took from Redis to its turn, and says it once.
func TestPulsesTellTheWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	r.lead(func(c *Config) { c.Bridge.Pulse = 50 * time.Millisecond }) // twenty for each mark
	sub, err := r.nc.SubscribeSync(r.names.Log() + wire.PulseToken)
	if err != nil {
		t.Fatal(err)
	}
	told := func() time.Duration { // by each of them: only one tells
		m, err := sub.NextMsg(wait)
		if err != nil {
			t.Fatal(err)
		}
		p, err := wire.ParsePulse(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		return p.Waited
	}
	for range 2 {
		until(t, "a pulse tells", func() bool { w := told(); return w > 0 && w < wait })
		until(t, "the next one does not tell it again", func() bool { return told() == 0 })
	}

	l := &leader{stats: newStats()}
	l.reach(&message{nonce: &anchor{nonce: "another's"}})
	if l.waited != 0 {
		t.Errorf("%s waited, by another bridge's clock", l.waited)
	}
	l.reach(&message{nonce: &anchor{nonce: "ours", sent: time.Now().Add(-time.Minute)}})
	if l.waited < time.Minute {
		t.Errorf("%s waited, want the minute in the queue, too", l.waited)
	}
}

// A pulse that is sent again, as after an outage, tells the wait until then.
func TestWaitGoesOn(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	cfg := worker.Default[Config]()
	l := newLeader(r.nc, newQueue(1<<20), &cfg, noLink{}, embedded.TestLog(t))
	l.epoch = "e1"
	sub, err := r.nc.SubscribeSync(l.names.Log() + wire.PulseToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ waited, least, most time.Duration }{{time.Second, time.Minute, wait + 2*time.Minute}, {0, 0, 0}} {
		m := message{subject: wire.PulseToken, pulse: &wire.Pulse{Epoch: "e1", Time: time.Now().Add(-time.Minute), Waited: c.waited}}
		if err := l.send(newWire(l), &m); err != nil {
			t.Fatal(err)
		}
		sent, err := sub.NextMsg(wait)
		if err != nil {
			t.Fatal(err)
		}
		p, err := wire.ParsePulse(sent.Data)
		if err != nil || p.Waited < c.least || p.Waited > c.most || time.Since(p.Time) > wait {
			t.Errorf("of %v: %+v, %v", c, p, err)
		}
	}
}
