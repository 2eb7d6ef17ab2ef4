package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/shared/channel"
	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// Those of the issue, and some that begin like the system's own.
var names = []string{
	"game:room1:p7", "a.b", "a..b", "*", ">", "a b", "a,b", "ü", "\x00", "\xff", "", "$SYS.x", ":", "a::b", "%", "$pulse", "sluice:x", "a\r\nb",
}

func TestEveryNameAndPayload(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	payloads := []string{"", "one line", "\n", "\r", "\r\n", " leading", "\xff\x00\xfe", strings.Repeat("x", 900<<10)}
	for _, name := range names {
		for _, payload := range payloads {
			if len(payload) > 1000 && name != names[0] {
				continue
			}
			r.publish(name, payload)
			m := r.want(name, payload)
			if m.Header.Get(wire.HeaderSequence) == "" {
				t.Fatalf("%q: not from the stream", name)
			}
		}
	}
	long := strings.Repeat("x", 5000)
	r.publish(long, "refused")
	r.publish(long, "refused")
	r.publish(strings.Repeat("ü", channel.MaxSubject/6+1), "refused")
	r.publish("sluice:mark", "not mirrored")
	r.publish("__keyspace@0__:x", "not mirrored")
	r.publish("__keyevent@0__:set", "not mirrored")
	r.publish("last", "")
	r.want("last", "")
	if d := b.stats.dropped[nameTooLong].Load(); d != 3 {
		t.Errorf("dropped for their name: %d, want 3", d)
	}
	if len(b.refuse.seen) != 2 {
		t.Errorf("logged %d refusals, want one a channel", len(b.refuse.seen))
	}
}

// Just under, at and above what the server takes: delivered, or refused and
// counted, and the connection stays.
func TestMaxPayload(t *testing.T) {
	for _, limit := range []int32{0, 64 << 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			r := newRig(t, embedded.NATSOptions{MaxPayload: limit})
			b, _ := r.lead(nil)
			server := int(r.nc.MaxPayload())
			most := server - headerReserve
			name := "big:" + strings.Repeat("n", 900) // the server adds the subject when it republishes
			for _, size := range []int{most - 1, most} {
				payload := strings.Repeat("x", size)
				r.publish(name, payload)
				r.want(name, payload)
			}
			for _, size := range []int{most + 1, server - 1, server, server + 1, 2 * server} {
				r.publish(name, strings.Repeat("y", size))
			}
			r.publish(name, "after")
			r.want(name, "after")
			if d := b.stats.dropped[tooLarge].Load(); d != 5 {
				t.Errorf("refused: %d, want 5", d)
			}
			if b.nc.Reconnects != 0 || b.stats.rewinds.Load() != 0 {
				t.Errorf("reconnects %d, rewinds %d", b.nc.Reconnects, b.stats.rewinds.Load())
			}
			if len(b.refuse.seen) != 1 {
				t.Errorf("logged %d times, want once", len(b.refuse.seen))
			}
		})
	}
}

func TestOverlappingPatternsDeliverOnce(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	r.lead(func(c *Config) {
		if err := c.Bridge.Patterns.Decode("game:1, game:*,*:1,g*, with%2Ccomma"); err != nil {
			t.Fatal(err)
		}
	})
	for i := range 20 {
		for _, name := range []string{"game:1", "game:2", "x:1", "go", "with,comma"} {
			r.publish(name, fmt.Sprint(i))
		}
		r.publish("other", "not asked for")
		for _, name := range []string{"game:1", "game:2", "x:1", "go", "with,comma"} {
			r.want(name, fmt.Sprint(i))
		}
	}
}

func TestHistoryOff(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(func(c *Config) {
		if err := c.Routes.Decode("game:> history=off"); err != nil {
			t.Fatal(err)
		}
	})
	for i := range 100 {
		r.publish("game:1", fmt.Sprint(i))
		if m := r.want("game:1", fmt.Sprint(i)); len(m.Header) != 0 {
			t.Fatalf("header %v", m.Header)
		}
	}
	r.publish("kept", "x")
	r.want("kept", "x")
	for _, m := range r.messages() {
		if strings.HasPrefix(m.Subject, "game") {
			t.Fatalf("%s is in the stream", m.Subject)
		}
	}
	if n := b.stats.live.Load(); n != 100 {
		t.Errorf("counted %d live, want 100", n)
	}
}

// 20,000 messages over 50 channels: all, in order, each stored once.
func TestOrder(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	const messages, channels = 20000, 50
	go r.flood(messages, channels)
	for i := range messages {
		r.want(fmt.Sprintf("c:%d", i%channels), fmt.Sprint(i))
	}
	until(t, "all are acknowledged", func() bool { return b.stats.stored.Load() == messages })
	if b.stats.received.Load() != messages {
		t.Errorf("received %d", b.stats.received.Load())
	}
}

// flood publishes numbered messages over channels, as fast as Redis takes them.
func (r *rig) flood(messages, channels int) {
	pipe := r.pub.Pipeline()
	for i := range messages {
		pipe.Publish(r.t.Context(), fmt.Sprintf("c:%d", i%channels), fmt.Sprint(i))
		if pipe.Len() == 200 || i == messages-1 {
			if _, err := pipe.Exec(r.t.Context()); err != nil {
				r.t.Error(err)
				return
			}
		}
	}
}

func TestStreamIsMadeAndAdjusted(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	_, stop := r.lead(nil)
	r.publish("a", "1")
	r.want("a", "1")
	c := r.info().Config
	if c.RePublish == nil || c.RePublish.Destination != "sluice.live.>" || !c.AllowDirect || c.MaxBytes != 64<<20 ||
		c.MaxMsgsPerSubject != 1000 || c.MaxAge != 10*time.Minute || c.Storage.String() != "Memory" {
		t.Errorf("made as %+v", c)
	}
	stop()
	b, _ := r.lead(func(c *Config) {
		c.Bridge.MaxBytes = 32 << 20
		c.Bridge.Storage = "file" // cannot be changed: told, and used as it is
		if err := c.Routes.Decode("big:> history=5000/1h"); err != nil {
			t.Fatal(err)
		}
	})
	c = r.info().Config
	if c.MaxBytes != 32<<20 || c.MaxMsgsPerSubject != 5000 || c.MaxAge != time.Hour || c.Storage.String() != "Memory" {
		t.Errorf("adjusted to %+v", c)
	}
	if !b.leader.keeper.told {
		t.Error("nothing was said of the storage")
	}
	if !slices.ContainsFunc(r.messages(), func(m *stored) bool { return m.Subject == "a" && string(m.Data) == "1" }) {
		t.Error("the history is gone")
	}
}

// The server has less memory than was asked for: the stream is made smaller.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{MaxMemory: 20 << 20})
	for _, what := range []string{"made", "found"} { // also by a bridge that wants more than there is
		_, stop := r.lead(nil)
		if c := r.info().Config; c.MaxBytes > 8<<20 || c.MaxBytes < 4<<20 {
			t.Errorf("%s: stream of %d bytes in a server with 20 MiB, want at most 40 %% of them", what, c.MaxBytes)
		}
		stop()
	}
	// What fits may be set; the rest of the settings is taken over all the same.
	_, stop := r.lead(func(c *Config) { c.Bridge.MaxBytes = 5 << 20; c.Routes = routes(t, "a history=7/1m") })
	if c := r.info().Config; c.MaxBytes != 5<<20 {
		t.Errorf("stream of %d bytes, 5 MiB are set", c.MaxBytes)
	}
	stop()
	r.lead(func(c *Config) { c.Routes = routes(t, "a history=5000/30m") })
	if c := r.info().Config; c.MaxMsgsPerSubject != 5000 || c.MaxAge != 30*time.Minute || c.MaxBytes < 4<<20 || c.MaxBytes > 8<<20 {
		t.Errorf("stream of %d bytes, %d messages, %s", c.MaxBytes, c.MaxMsgsPerSubject, c.MaxAge)
	}
}

func TestPulses(t *testing.T) {
	r := newRig(t, embedded.NATSOptions{})
	b, _ := r.lead(nil)
	first := r.lastPulse()
	if first.Epoch == "" || first.Term != 1 || first.Bridge != b.leader.name || first.Routes != b.routes.Hash() {
		t.Errorf("pulse %+v", first)
	}
	until(t, "a later pulse", func() bool { return r.lastPulse().Time.After(first.Time) })
	marked := 0
	for _, m := range r.messages() {
		p, err := wire.ParsePulse(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		ttl := strings.Contains(string(m.Header), headerTTL)
		if p.Marked == ttl {
			t.Errorf("marked %v and limited in time %v", p.Marked, ttl)
		}
		if p.Marked {
			marked++
		}
	}
	if marked != 1 {
		t.Errorf("%d marked pulses, want 1", marked)
	}
}
