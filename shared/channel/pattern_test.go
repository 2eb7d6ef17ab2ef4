package channel

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

func TestPatterns(t *testing.T) {
	f := func(pattern, subject string, yes, no []string) {
		t.Helper()
		p, err := ParsePattern(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			return
		}
		if p.Subject() != subject {
			t.Errorf("%q: subject %q, want %q", pattern, p.Subject(), subject)
		}
		for _, c := range yes {
			if !p.Match(c) {
				t.Errorf("%q does not match %q", pattern, c)
			}
		}
		for _, c := range no {
			if p.Match(c) {
				t.Errorf("%q matches %q", pattern, c)
			}
		}
	}
	f("game:*", "game.*", []string{"game:1", "game:", "game:*"}, []string{"game", "game:1:2", "games:1", "Game:1"})
	f("game:>", "game.>", []string{"game:1", "game:1:2", "game:"}, []string{"game", "gam:1"})
	f(">", ">", []string{"", "a", "$SYS", ":"}, nil)
	f("*:b", "*.b", []string{"a:b", ":b", "$a:b"}, []string{"b", "a:c"})
	f("a%2A", "a%2A", []string{"a*"}, []string{"ab"})
	f("%3e", "%3E", []string{">"}, []string{"a"})
	f("", "%", []string{""}, []string{"a"})
	f("a::*", "a.%.*", []string{"a::b"}, []string{"a:b:c"})
	f("ü=;", "%C3%BC=;", []string{"ü=;"}, nil)
}

func TestPatternErrors(t *testing.T) {
	f := func(pattern, text string) {
		t.Helper()
		if _, err := ParsePattern(pattern); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", pattern, err, text)
		}
	}
	f("a*", "byte 2: *")
	f("ab:x>", "byte 5: >")
	f(">:a", "byte 1: >")
	f("a:>:b", "byte 3: >")
	f("**", "%2A")
	f("a:%", "byte 3")
	f("%zz", "hexadecimal")
	f("%+1", "hexadecimal")
	f("%3A", "colon")
}

// System subjects match nothing, whatever the wildcard.
func TestSystemSubjects(t *testing.T) {
	for _, text := range []string{">", "*", "*:x"} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"$pulse", "$gap", "$x.x", ""} {
			if p.MatchSubject(s) {
				t.Errorf("%q matches subject %q", text, s)
			}
		}
	}
}

var (
	segment = rapid.SampledFrom([]string{"a", "b", "", "*", "$x"})
	tail    = rapid.SampledFrom([]string{"a", "*", ">", "b"})
)

func drawPattern(t *rapid.T, label string) Pattern {
	parts := append(rapid.SliceOfN(segment, 0, 2).Draw(t, label), tail.Draw(t, label+" end"))
	p, err := ParsePattern(strings.Join(parts, ":"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// every channel of up to four segments over a small alphabet
var universe = func() (all []string) {
	level := []string{"a", "b", "", "$x", "c"}
	segments := level
	for range 4 {
		all = append(all, level...)
		var next []string
		for _, c := range level {
			for _, s := range segments {
				next = append(next, c+":"+s)
			}
		}
		level = next
	}
	return all
}()

// Matching agrees with NATS's own; overlap and cover with trying all channels.
func TestMatchingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawPattern(t, "p"), drawPattern(t, "q")
		overlaps, covers := false, true
		for _, c := range universe {
			s, err := Subject(c)
			if err != nil {
				t.Fatal(err)
			}
			mp, mq := p.MatchSubject(s), q.MatchSubject(s)
			if mp != p.Match(c) || mp != server.SubjectsCollide(p.Subject(), s) {
				t.Fatalf("%q on %q: %v", p, c, mp)
			}
			overlaps = overlaps || mp && mq
			covers = covers && (!mq || mp)
		}
		if got := p.Overlaps(q); got != overlaps || got != q.Overlaps(p) {
			t.Fatalf("%q overlaps %q: %v, want %v", p, q, got, overlaps)
		}
		if got := p.Covers(q); got != covers {
			t.Fatalf("%q covers %q: %v, want %v", p, q, got, covers)
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, text := range append(names, "game:*", "a:>", "%2A", "*:*:>") {
		f.Add(text, "a:b")
	}
	f.Fuzz(func(t *testing.T, text, channel string) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		if !server.IsValidSubject(p.Subject()) {
			t.Fatalf("%q: subject %q", text, p.Subject())
		}
		again, err := ParsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q is written %q, which is %q, %v", text, p, again, err)
		}
		if strings.ContainsAny(p.String(), ";,= ") {
			t.Fatalf("%q is written %q", text, p)
		}
		s, err := Subject(channel)
		if err == nil && p.MatchSubject(s) != server.SubjectsCollide(p.Subject(), s) {
			t.Fatalf("%q on %q", p, channel)
		}
	})
}
