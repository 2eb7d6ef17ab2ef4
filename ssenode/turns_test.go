package ssenode

import (
	"testing"

	"pgregory.net/rapid"
)

// However others come and go, a session has its turn exactly once in each
// heartbeat time, from its coming to its going.
func TestTurnsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := rapid.IntRange(1, 5).Draw(t, "ticks")
		turns := newTurns(every)
		last := map[*session]int{}
		var order []*session
		for tick := range rapid.IntRange(1, 60).Draw(t, "length") {
			for range rapid.IntRange(0, 3).Draw(t, "coming") {
				s := &session{}
				turns.add(s)
				last[s] = -1
				order = append(order, s)
			}
			for range rapid.IntRange(0, min(3, len(order))).Draw(t, "going") {
				i := rapid.IntRange(0, len(order)-1).Draw(t, "which")
				turns.remove(order[i])
				delete(last, order[i])
				order = append(order[:i:i], order[i+1:]...)
			}
			for _, s := range turns.due(tick) {
				before, there := last[s]
				if !there {
					t.Fatal("a session that left has its turn")
				}
				if before >= 0 && tick-before != every {
					t.Fatalf("%d ticks between two turns, want %d", tick-before, every)
				}
				last[s] = tick
			}
			if turns.n != len(order) {
				t.Fatalf("%d sessions, want %d", turns.n, len(order))
			}
			for _, s := range order {
				if last[s] >= 0 && tick-last[s] >= every {
					t.Fatalf("a session waits for %d ticks", tick-last[s])
				}
			}
		}
	})
}
