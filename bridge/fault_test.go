package bridge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// payloads are those of channel c:0 in the stream, in order.
func (r *rig) payloads() (list []int) {
	r.t.Helper()
	for _, m := range r.messages() {
		if m.Subject == "c.0" {
			n, err := strconv.Atoi(string(m.Data))
			if err != nil {
				r.t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	return list
}

// checkWhole demands 0, 1, 2 … up to count, each once.
func checkWhole(t *testing.T, got []int, count int) {
	t.Helper()
	for i, n := range got {
		if n != i {
			t.Fatalf("at place %d stands %d", i, n)
		}
	}
	if len(got) != count {
		t.Fatalf("%d messages are stored, want %d", len(got), count)
	}
}

// Acknowledgements get lost while messages flow, then the connection is cut:
// nothing is stored twice, nothing is lost, the order stays.
func TestLostAcknowledgements(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	p := embedded.TestProxy(t, r.nats.Addr())
	b, _ := r.lead(func(c *Config) {
		c.NATS.URL = "nats://" + p.Addr()
		if err := c.Routes.Decode("c:> history=100000/10m"); err != nil {
			t.Fatal(err)
		}
	})
	epoch := r.lastPulse().Epoch
	count := 0
	send := func(n int) {
		for range n {
			r.publish("c:0", fmt.Sprint(count))
			count++
		}
	}
	for round := range 3 {
		send(200)
		p.Swallow.Store(true)
		send(200)
		if round == 1 {
			// Not even cut: only the missing acknowledgements tell.
			until(t, "the bridge rewinds", func() bool { return b.stats.rewinds.Load() > uint64(round) })
		}
		p.Cut()
		p.Swallow.Store(false)
		send(200)
		until(t, "all is stored", func() bool { return b.stats.stored.Load() >= uint64(count) })
	}
	checkWhole(t, r.payloads(), count)
	if b.stats.rewinds.Load() == 0 {
		t.Error("no rewind: the test has not tested it")
	}
	if n := b.stats.stored.Load(); n != uint64(count) {
		t.Errorf("%d counted as stored, want %d: pulses are none of them", n, count)
	}
	if got := r.lastPulse(); got.Epoch != epoch || got.Term != 1 {
		t.Errorf("epoch %s term %d, want %s and 1", got.Epoch, got.Term, epoch)
	}
}

// A bridge that goes on within its term writes as much padding as it has on its way, or
// had, and no more.
func TestPaddingWithinATerm(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	p := embedded.TestProxy(t, r.nats.Addr())
	b, _ := r.lead(func(c *Config) { c.NATS.URL = "nats://" + p.Addr() })
	r.publish("c:0", "0")
	until(t, "it is stored", func() bool { return b.stats.stored.Load() == 1 })
	const count = 300
	p.Mute.Store(true)
	for i := range count {
		r.publish("c:0", fmt.Sprint(i+1))
	}
	until(t, "they are on their way", func() bool { return b.stats.inFlight.Load() >= count })
	before := r.state().LastSeq
	until(t, "the bridge rewinds", func() bool { return b.stats.rewinds.Load() == 1 })
	p.Cut()
	p.Mute.Store(false)
	until(t, "all is stored", func() bool { return b.stats.stored.Load() == count+1 })
	checkWhole(t, r.payloads(), count+1)
	for _, m := range r.messages() {
		if m.Subject != wire.PulseToken || m.Seq <= before {
			continue
		}
		// Beside the messages there were pulses of some seconds.
		if pulse, err := wire.ParsePulse(m.Data); err != nil || !pulse.Marked || m.Seq <= before+count || m.Seq > before+2*count {
			t.Errorf("the end was at %d, the first pulse after it at %d: %+v, %v", before, m.Seq, pulse, err)
		}
		break
	}
}

// The NATS server is restarted under load with its files: what was queued
// meanwhile follows, in the same epoch.
func TestNATSRestartWithFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(func(c *Config) {
		c.Bridge.Storage = "file"
		if err := c.Routes.Decode("c:> history=100000/10m"); err != nil {
			t.Fatal(err)
		}
	})
	epoch := r.lastPulse().Epoch
	go func() {
		for i := range 3000 {
			r.publish("c:0", fmt.Sprint(i))
		}
	}()
	until(t, "some are stored", func() bool { return b.stats.stored.Load() > 100 })
	if err := r.nats.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "all are stored", func() bool { return b.stats.stored.Load() >= 3000 })
	checkWhole(t, r.payloads(), 3000)
	if got := r.lastPulse().Epoch; got != epoch {
		t.Errorf("epoch %s, want %s", got, epoch)
	}
}

// With memory storage the stream is gone after a restart: it is made anew, with
// another epoch, and what was not acknowledged is written to it.
func TestNATSRestartWithoutFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	epoch := r.lastPulse().Epoch
	r.publish("c:0", "0")
	r.want("c:0", "0")
	until(t, "it is acknowledged", func() bool { return b.stats.stored.Load() == 1 })
	if err := r.nats.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the bridge notices", func() bool { return b.ready() != nil })
	// With a pulse, the only thing that it has to send.
	until(t, "the bridge could not send", func() bool { return b.stats.rewinds.Load() > 0 })
	for i := range 100 {
		r.publish("c:0", fmt.Sprint(i))
	}
	if err := r.nats.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the test is connected", r.nc.IsConnected)
	until(t, "all are stored", func() bool { return b.stats.stored.Load() == 101 })
	checkWhole(t, r.payloads(), 100)
	if got := r.lastPulse(); got.Epoch == epoch || got.Term != 2 {
		t.Errorf("epoch %s term %d, want another than %s and 2", got.Epoch, got.Term, epoch)
	}
	// A pulse that waited for its acknowledgement is sent again, as one of now: a
	// node would take the old epoch for one more new beginning.
	for _, m := range r.messages() {
		if p, err := wire.ParsePulse(m.Data); err == nil && p.Epoch == epoch {
			t.Errorf("a pulse of epoch %s is in the new stream", epoch)
		}
	}
}

// What is lost before the stream is told in it: after the link to Redis was lost,
// and for a message that is refused.
func TestGapMarks(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	p := embedded.TestProxy(t, r.redis.Addr())
	b, _ := r.lead(func(c *Config) { c.Redis.URL = "redis://" + p.Addr() })
	marks := func() (list []wire.Mark) {
		for _, m := range r.messages() {
			if m.Subject == wire.GapToken {
				mark, err := wire.ParseMark(m.Data)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, mark)
			}
		}
		return list
	}
	until(t, "the bridge is subscribed", func() bool { return b.ready() == nil })
	if m := marks(); len(m) != 0 {
		t.Fatalf("marks of a stream that has just begun: %+v", m)
	}
	p.Cut()
	until(t, "a mark of the lost link", func() bool { return len(marks()) == 1 })
	if m := marks()[0]; m.Reason != wire.GapUpstream || m.Subjects != nil || m.Epoch != r.lastPulse().Epoch || m.Term != 1 {
		t.Errorf("mark %+v", m)
	}
	r.publish("big:1", strings.Repeat("x", 2<<20))
	until(t, "a mark of the refused message", func() bool { return len(marks()) == 2 })
	if m := marks()[1]; m.Reason != wire.GapDropped || len(m.Subjects) != 1 || m.Subjects[0] != "big.1" {
		t.Errorf("mark %+v", m)
	}
	until(t, "both are counted", func() bool { return b.stats.marks.Load() == 2 })
}

// The pulses tell what was written, each message in the next one.
func TestDigests(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	r.lead(nil)
	for i := range 50 {
		r.publish(fmt.Sprint("d:", i%7), fmt.Sprint(i))
	}
	told := func() map[string]uint64 {
		last := map[string]uint64{}
		for _, m := range r.messages() {
			if p, err := wire.ParsePulse(m.Data); err == nil && m.Subject == wire.PulseToken {
				if err := wire.EachInDigest(p.Digest, func(s []byte, seq uint64) { last[string(s)] = seq }); err != nil {
					t.Fatal(err)
				}
			}
		}
		return last
	}
	until(t, "all channels are told", func() bool { return len(told()) == 7 })
	until(t, "the last of each is told", func() bool {
		got := told()
		for _, m := range r.messages() {
			if m.Subject[0] != '$' && got[m.Subject] < m.Seq {
				return false
			}
		}
		return true
	})
}

// Redis goes away and comes back; so does one that only falls silent.
func TestRedisLink(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	p := embedded.TestProxy(t, r.redis.Addr())
	b, _ := r.lead(func(c *Config) { c.Redis.URL = "redis://" + p.Addr() })
	works := func(text string) {
		t.Helper()
		until(t, "the bridge is subscribed", func() bool { return b.ready() == nil })
		r.publish("a", text)
		r.want("a", text)
	}
	works("first")
	p.Cut()
	until(t, "a new link", func() bool { return b.source.links.Load() == 2 })
	works("after a cut")
	p.Swallow.Store(true)
	start := time.Now()
	until(t, "silence is noticed", func() bool { return !b.source.linked() })
	t.Logf("silence noticed after %s", time.Since(start).Round(time.Millisecond))
	p.Cut()
	p.Swallow.Store(false)
	works("after silence")
	if err := r.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "a new link", func() bool { return b.source.links.Load() >= 4 })
	works("after a restart")
}

// Of two bridges one mirrors. The other takes over when it stops.
func TestTwoBridges(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	first, stop := r.lead(nil)
	second, _ := r.start(nil)
	until(t, "the second waits", func() bool { return second.ready() == nil && second.leader.keeper != nil })
	for i := range 50 {
		r.publish("a", fmt.Sprint(i))
		r.want("a", fmt.Sprint(i))
	}
	if second.leader.leads.Load() {
		t.Fatal("both lead")
	}
	epoch := r.lastPulse().Epoch
	stop()
	until(t, "the second leads", second.leader.leads.Load)
	r.publish("a", "taken over")
	r.want("a", "taken over")
	if p := r.lastPulse(); p.Term != 2 || p.Epoch != epoch || p.Bridge == first.leader.name {
		t.Errorf("pulse %+v, want term 2 and epoch %s", p, epoch)
	}
}

// Somebody with a higher term has written: the bridge gives up at once, and
// leads again when the other falls silent.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	p := wire.Pulse{Epoch: "other1", Term: 7, Bridge: "other", Time: time.Now(), Marked: true}
	m := nats.NewMsg(r.names.Log() + wire.PulseToken)
	m.Data = p.Encode()
	m.Header.Set(wire.Header, wire.Stamp{Term: 7}.String())
	// Again, until it works: this is not a bridge, with padding before its pulse, and
	// what of ours was on its way then can stand behind it and hide it.
	embedded.EventuallyEvery(t, "it steps down", wait, 100*time.Millisecond, func() bool {
		if err := r.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		return !b.leader.leads.Load()
	})
	until(t, "it leads again", b.leader.leads.Load)
	if got := r.lastPulse(); got.Term != 8 || got.Epoch != "other1" {
		t.Errorf("term %d epoch %s, want 8 and other1", got.Term, got.Epoch)
	}
	r.publish("a", "goes on")
	r.want("a", "goes on")
}

// Somebody else's message in the stream is told, and does not stop the bridge.
func TestForeignMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	r.publish("c:0", "0")
	r.want("c:0", "0")
	if err := r.nc.Publish(r.names.Log()+"foreign", []byte("x")); err != nil {
		t.Fatal(err)
	}
	until(t, "the bridge has noticed", func() bool { return b.stats.rewinds.Load() > 0 })
	r.publish("c:0", "1")
	until(t, "it goes on", func() bool { return b.stats.stored.Load() == 2 })
	checkWhole(t, r.payloads(), 2)
}

// While NATS is away the queue fills up to its bound; what fits is delivered
// afterwards in order, the rest is counted.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(func(c *Config) {
		c.Bridge.QueueBytes = 2 << 20
		c.Bridge.Storage = "file"
		if err := c.Routes.Decode("live history=off"); err != nil {
			t.Fatal(err)
		}
	})
	if err := r.nats.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the bridge notices", func() bool { return b.ready() != nil })
	payload := strings.Repeat("x", 10000)
	for i := range 400 {
		r.publish("c:0", fmt.Sprintf("%d %s", i, payload))
		if i < 10 {
			r.publish("live", "late is worthless")
		}
		if _, n := b.queue.load(); n > 2<<20 {
			t.Fatalf("%d bytes are queued", n)
		}
	}
	until(t, "all have come from Redis", func() bool { return b.stats.received.Load() == 410 })
	dropped := b.stats.dropped[queueFull].Load()
	if dropped < 100 || dropped > 300 {
		t.Errorf("%d dropped", dropped)
	}
	if err := r.nats.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the test is connected", r.nc.IsConnected)
	kept := 400 - int(dropped)
	until(t, "the rest is stored", func() bool { return b.stats.stored.Load() == uint64(kept) })
	i := 0
	for _, m := range r.messages() {
		if m.Subject == "c.0" {
			if !strings.HasPrefix(string(m.Data), fmt.Sprint(i, " ")) {
				t.Fatalf("at place %d stands %.10q", i, m.Data)
			}
			i++
		}
	}
	if i != kept || b.stats.dropped[noNATS].Load() != 10 {
		t.Errorf("%d stored, %d live ones dropped; want %d, 10", i, b.stats.dropped[noNATS].Load(), kept)
	}
}

// A stopping bridge writes what it has taken from Redis.
func TestStopWritesWhatIsQueued(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	b, stop := r.lead(nil)
	flooded := make(chan struct{})
	go func() { defer close(flooded); r.flood(5000, 10) }()
	until(t, "many have come", func() bool { return b.stats.received.Load() > 1000 })
	stop()
	if got, want := b.stats.stored.Load(), b.stats.received.Load(); got != want {
		t.Errorf("stored %d of %d", got, want)
	}
	<-flooded
}
