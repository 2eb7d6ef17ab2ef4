package ssenode

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice/shared/wire"
)

// times are how many a histogram has seen, and their sum in seconds.
func times(t testing.TB, h prometheus.Histogram) (count uint64, sum float64) {
	t.Helper()
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum()
}

// How late a node is, is told by pulses: what the bridge says an event waited, and how
// old the pulse is when all before it is written. Without pulses the age goes up.
func TestLatencyByPulses(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	if count, _ := times(t, n.stats.endToEnd); count != 0 {
		t.Errorf("%d samples of pulses that say nothing of Redis", count)
	}
	u.quiet(true)
	pulsed := func(sent time.Time, waited time.Duration) {
		u.mu.Lock()
		p := u.newPulse()
		p.Time, p.Waited = sent, waited
		seq := u.put(wire.PulseToken, p.Encode())
		u.mu.Unlock()
		until(t, "the pulse is checked", func() bool { return n.dispatch.head.Load() >= seq })
		n.dispatch.call(t.Context(), func() {}) // and all is noted that is noted after that
	}
	pulsed(time.Now(), 0) // those under way come before it
	before, seconds := times(t, n.stats.lag)
	pulsed(time.Now().Add(-time.Second), 2*time.Second)
	if count, sum := times(t, n.stats.lag); count != before+1 || sum-seconds < 1 || sum-seconds > 1+wait.Seconds() {
		t.Errorf("verified after %v s in %d samples, want one of a second and a bit", sum-seconds, count-before)
	}
	loops := uint64(len(n.loops))
	until(t, "each loop has told", func() bool { count, _ := times(t, n.stats.endToEnd); return count == loops })
	if _, sum := times(t, n.stats.endToEnd); sum < 3*float64(loops) || sum > (3+wait.Seconds())*float64(loops) {
		t.Errorf("%v s end to end of %d loops, want three seconds and a bit each", sum, loops)
	}
	// The bridge's clock may be ahead of this one.
	pulsed(time.Now().Add(time.Hour), time.Second)
	until(t, "each loop has told again", func() bool { count, _ := times(t, n.stats.endToEnd); return count == 2*loops })
	if _, sum := times(t, n.stats.endToEnd); sum < 4*float64(loops) {
		t.Errorf("%v s end to end: less than an event waited", sum)
	}

	age := func() time.Duration { return time.Since(time.Unix(0, n.stats.known.Load())) }
	until(t, "the age goes up", func() bool { return age() > 300*time.Millisecond })
	knew := n.stats.known.Load()
	pulsed(time.Now().Add(2*time.Hour), 0)
	if n.stats.known.Load() == knew {
		t.Error("a pulse did not make it young again")
	}
}

// What came, where missed events were found, and who is not up to date is counted.
func TestPressureIsCounted(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	here := startNode(t, u, func(c *Config) { c.SSENode.Linger = time.Minute })
	there := startNode(t, u, nil)
	const path = "/events?channel=a"
	s := open(t, here, path)
	settle(t, here)
	u.publish("a", "first")
	id := want(t, s, "", "first").ID
	s.Close()
	has(t, here, "a", u.publish("a", "second"))
	back := resume(t, here, path, id)
	want(t, back, "", "second")
	back.Close()
	ring, stream := here.stats.reads[fromRing].Load(), here.stats.reads[fromStream].Load()
	if ring == 0 || stream != 0 {
		t.Errorf("found %d times in the ring, %d in the stream; want it in the ring", ring, stream)
	}
	want(t, resume(t, there, path, id), "", "second")
	if stream := there.stats.reads[fromStream].Load(); stream == 0 {
		t.Error("not found in the stream")
	}
	st := here.stats
	if events, bytes := st.messages.Load(), st.bytesIn.Load(); events != 2 || bytes < uint64(len("firstsecond")) {
		t.Errorf("%d events, %d bytes; want 2, and the bytes of pulses, too", events, bytes)
	}
	if count, _ := times(t, there.history.took); count == 0 || count > there.history.asked.Load() {
		t.Errorf("%d requests to the stream were timed of %d", count, there.history.asked.Load())
	}

	until(t, "all are up to date", func() bool { return here.late() == 0 })
	frozen(t, here, path)
	for i := range 100 {
		u.publish("a", fmt.Sprint(i, strings.Repeat("x", 100<<10)))
	}
	until(t, "who does not read is counted", func() bool { return here.late() == 1 })
}

// A request that finds nothing is none that went wrong.
func TestRequestErrors(t *testing.T) {
	h := newHistory(nil, wire.Stream{})
	for _, err := range []error{nil, errNothing, errTorn, errors.New("timeout")} {
		h.ask()(&err)
	}
	if asked, failed := h.asked.Load(), h.failed.Load(); asked != 4 || failed != 2 {
		t.Errorf("%d of %d failed, want 2 of 4", failed, asked)
	}
}
