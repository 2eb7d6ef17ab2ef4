//go:build !race

package ssenode

import "testing"

// A delivery costs no allocation, and a batch one for each joined buffer at most.
func TestAllocSweep(t *testing.T) {
	for _, frames := range []int{1, 10} {
		l, tp, sock := newSweep(1000)
		ops := newOps(tp, frames)
		l.sweep(ops) // room for what is kept
		sock.taken = 0
		const runs = 20
		n := testing.AllocsPerRun(runs, func() { l.sweep(ops) })
		if sock.taken < runs*1000*frames*200 {
			t.Fatalf("only %d bytes were written", sock.taken)
		}
		if limit := float64(min(frames-1, 1)); n > limit {
			t.Errorf("%d frames to 1,000 clients: %v allocations, want at most %v", frames, n, limit)
		}
	}
}
