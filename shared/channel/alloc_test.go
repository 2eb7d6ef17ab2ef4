//go:build !race

package channel

import "testing"

// The mapping and the matching are on every message's way.
func TestAllocations(t *testing.T) {
	p, err := ParsePattern("game:*:>")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 256)
	for what, f := range map[string]func(){
		"AppendSubject": func() { buf, _ = AppendSubject(buf[:0], "game:room 1:p7") },
		"MatchSubject":  func() { p.MatchSubject("game.room%201.p7") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}
