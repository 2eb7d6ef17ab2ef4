package ssenode

import (
	"errors"
	"testing"
	"time"
)

// A client whose channel's place in the stream is not known for long delays nobody
// who came later, and does not wait for ever.
func TestUsherOvertakes(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	first, second, third := joinNow(t, n, "channel=a", ""), joinNow(t, n, "channel=b", ""), joinNow(t, n, "channel=c", "")
	began := time.Now()
	unknown := make(chan struct{})
	n.usher.seat(first.session, first.request, []chan struct{}{unknown})
	n.usher.seat(second.session, second.request, second.wait)
	n.usher.seat(third.session, third.request, third.wait)
	second.answer()
	third.answer()
	select {
	case <-first.session.poll().done:
		t.Errorf("the others have waited for it, %s", time.Since(began))
	default:
	}
	first.answer()
	if took := time.Since(began); took < flushLimit {
		t.Errorf("taken over after %s, want %s", took, flushLimit)
	}
}

// Nor does one with an id beyond what the node knows while the stream does not answer,
// also if the stream began anew a moment ago and its id was a known one before.
func TestUsherAsksNothing(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	j := joinNow(t, n, "channel=a", idOf(1000))
	u.stop()
	began := time.Now()
	n.adopt(j.session, j.request, nil)
	if took := time.Since(began); took > flushLimit {
		t.Errorf("taken over after %s", took)
	}
}

// Who came before a question was asked that was not answered does not ask it again.
func TestTipFailsForAll(t *testing.T) {
	failed := errors.New("no answer")
	x := &tip{seq: 5, asked: time.Now().Add(time.Hour), failed: failed}
	for seq, want := range map[uint64]error{5: nil, 6: failed} {
		if is, err := x.ask(seq); err != want || is != (want == nil) {
			t.Errorf("reaches %d: %v, %v", seq, is, err)
		}
	}
}
