package channel

import (
	"testing"

	"pgregory.net/rapid"
)

func parse(t interface{ Fatal(...any) }, texts ...string) []Pattern {
	list := make([]Pattern, len(texts))
	for i, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = p
	}
	return list
}

func TestCoveredBy(t *testing.T) {
	f := func(want bool, pattern string, list ...string) {
		t.Helper()
		if got := parse(t, pattern)[0].CoveredBy(parse(t, list...)); got != want {
			t.Errorf("%q by %q: %v", pattern, list, got)
		}
	}
	f(false, "a")
	f(false, ">")
	f(true, "a", "b", "a")
	f(true, "a:b", "a:*")
	f(true, "a:b", "a:>")
	f(true, "a:*:>", "a:>")
	f(false, "a:>", "a:*")
	f(false, "a:>", "a:*:>")
	f(true, "a:>", "a:*", "a:*:>")
	f(true, "a:>", "a:*:*:>", "a:*:*", "a:*")
	f(false, "a:>", "a:*:*:>", "a:*")
	f(true, ">", "*", "*:>")
	f(false, ">", "*", "a:>")
	f(false, "*", "a", "b")
	f(false, "a:>", "a:b:>", "a:*")
	f(true, "a:>", "*:*", "a:*:*", "*:*:*:>")
	f(true, "a:>", "a:*:*:>", "a:*:>", "a:*")
	f(false, "*:>", "a:>", "*:*")
	f(false, "a%2A", "a")
	f(true, "%2A", "*")
	f(false, "*", "%2A")
	f(false, "", "a")
	f(true, "", "*")
}

// A pattern is covered if and only if every channel of a universe that it
// matches is matched by the list. The universe has segments that no pattern
// spells out, and more of them than the longest pattern.
func TestCoveredByModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPattern(t, "p")
		list := make([]Pattern, rapid.IntRange(0, 6).Draw(t, "n"))
		for i := range list {
			list[i] = drawPattern(t, "of the list")
		}
		want := true
		for _, c := range universe {
			s, _ := Subject(c)
			if !p.MatchSubject(s) {
				continue
			}
			any := false
			for _, q := range list {
				any = any || q.MatchSubject(s)
			}
			want = want && any
		}
		if got := p.CoveredBy(list); got != want {
			t.Fatalf("%q covered by %q: %v, want %v", p, list, got, want)
		}
	})
}
