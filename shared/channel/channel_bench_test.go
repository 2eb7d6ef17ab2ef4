package channel

import "testing"

func BenchmarkAppendSubject(b *testing.B) {
	for name, c := range map[string]string{"plain": "game:room1:player7", "encoded": "ünï.cödé:*:$x"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 256)
			for b.Loop() {
				buf, _ = AppendSubject(buf[:0], c)
			}
		})
	}
}

func BenchmarkFromSubject(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _ = FromSubject("game.room1.player7")
	}
}

func BenchmarkMatchSubject(b *testing.B) {
	p, err := ParsePattern("game:*:>")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.MatchSubject("game.room1.player7")
	}
}
