package limits

import (
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestTallyCounts(t *testing.T) {
	y := newTallies[string](0, 0)
	now := time.Now()
	a, b := y.enter("a", 2, now), y.enter("a", 2, now)
	if a == nil || b == nil || y.enter("a", 2, now) != nil {
		t.Error("want two of a, not three")
	}
	if y.enter("b", 2, now) == nil {
		t.Error("b is another one")
	}
	w := y.wait("a", 1, now)
	if w == nil || y.wait("a", 1, now) != nil {
		t.Error("want one of a that waits, beside the others")
	}
	a.leave()
	if y.enter("a", 2, now) == nil {
		t.Error("one has left: want room")
	}
	a.leave()
	b.leave()
	if y.size() != 2 {
		t.Errorf("%d keys are known, want 2", y.size())
	}
	w.goOn()
	if y.size() != 1 { // b
		t.Errorf("%d keys are known, want 1", y.size())
	}
}

func TestTallyRates(t *testing.T) {
	y := newTallies[string](3, 1)
	now := time.Now()
	attempts := func(key string, at time.Time, want int) {
		t.Helper()
		n := 0
		for range 10 {
			if y.attempt(key, at) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s after %s: %d attempts, want %d", key, at.Sub(now), n, want)
		}
	}
	attempts("a", now, 3)
	attempts("b", now, 3)
	attempts("a", now.Add(400*time.Millisecond), 1)
	attempts("a", now.Add(10*time.Second), 3)
	if !y.call("a", now) || y.call("a", now) || !y.call("a", now.Add(time.Second)) {
		t.Error("want one call in a second")
	}
	// A key is forgotten when its rates are as those of a new one, unless something is
	// open of it.
	in := y.enter("c", 1, now)
	y.forget(now.Add(tallyIdle - 1))
	if y.size() != 3 {
		t.Errorf("%d keys are known, want 3", y.size())
	}
	y.forget(now.Add(10*time.Second + tallyIdle))
	if y.size() != 1 {
		t.Errorf("%d keys are known, want c", y.size())
	}
	in.leave()
	y.forget(now.Add(10*time.Second + tallyIdle))
	if y.size() != 0 {
		t.Errorf("%d keys are known, want none", y.size())
	}
}

// However many addresses come, the table is bounded; what is open stays counted.
func TestTallyIsBounded(t *testing.T) {
	y := newTallies[netip.Addr](5, 0)
	now := time.Now()
	first := netip.MustParseAddr("2001:db8::1")
	in := y.enter(first, 1, now)
	addr := netip.MustParseAddr("10.0.0.0")
	for range 2 * tallyShards * tallyRoom {
		addr = addr.Next()
		y.attempt(addr, now)
	}
	if n := y.size(); n > tallyShards*tallyRoom {
		t.Errorf("%d addresses are known, want at most %d", n, tallyShards*tallyRoom)
	}
	if y.enter(first, 1, now) != nil {
		t.Error("what is open was forgotten")
	}
	in.leave()
	if y.enter(first, 1, now) == nil {
		t.Error("no room although it left")
	}
}

func TestTallyTogether(t *testing.T) {
	y := newTallies[int](0, 0)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				key := (i + g) % 5
				if in := y.enter(key, 3, time.Now()); in != nil {
					w := y.wait(key, 2, time.Now())
					w.goOn()
					in.leave()
				}
			}
		})
	}
	wg.Wait()
	if y.size() != 0 {
		t.Errorf("%d keys are left", y.size())
	}
}
