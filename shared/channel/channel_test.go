package channel

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

// names are those that have made trouble elsewhere.
var names = []string{
	"game:room1:p7", "a.b", "a..b", "*", ">", "a b", "a,b", "ü", "\x00", "\xff", "", "$SYS.x", ":", "a::b",
	"%", "%25", "a%", "$", "a$", "a:$b", "a\r\nb", "\x7f", "::", "a:", ":a", ".", "x.*.>", "sluice:mark",
}

func TestSubjects(t *testing.T) {
	f := func(channel, want string) {
		t.Helper()
		got, err := Subject(channel)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", channel, got, err, want)
		}
	}
	f("game:room1:p7", "game.room1.p7")
	f("", "%")
	f(":", "%.%")
	f("a::b", "a.%.b")
	f("a.b", "a%2Eb")
	f("*", "%2A")
	f(">", "%3E")
	f("%", "%25")
	f("a b", "a%20b")
	f("a,b", "a,b")
	f("ü", "%C3%BC")
	f("\x00\xff", "%00%FF")
	f("$SYS.x", "%24SYS%2Ex")
	f("a$:$b", "a$.%24b")
}

func TestTooLong(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", MaxSubject+1), strings.Repeat("ü", MaxSubject/6+1), strings.Repeat(":", MaxSubject), strings.Repeat("x", 5000)} {
		if _, err := Subject(name); !errors.Is(err, ErrTooLong) {
			t.Errorf("%d bytes: %v", len(name), err)
		}
		if _, err := ParsePattern(name); !errors.Is(err, ErrTooLong) {
			t.Errorf("pattern of %d bytes: %v", len(name), err)
		}
	}
	for _, name := range []string{strings.Repeat("x", MaxSubject), strings.Repeat(":", MaxSubject/2-1)} {
		if _, err := Subject(name); err != nil {
			t.Errorf("%d bytes: %v", len(name), err)
		}
	}
	dst := []byte("kept")
	if got, err := AppendSubject(dst, strings.Repeat("*", 400)); err == nil || string(got) != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestNotCanonical(t *testing.T) {
	for _, subject := range []string{
		"", ".", "a.", ".a", "a..b", "*", ">", "a.*", "%2a", "%41", "%3A", "%", // the last one is fine, see below
		"%.%%", "a%", "%2", "%zz", "a b", "ü", "\x00", "$a", "a.$b", "a%24", "%%", "a:b", "a.%25%", strings.Repeat("x", MaxSubject+1),
	} {
		got, err := FromSubject(subject)
		if subject == "%" {
			if err != nil || got != "" {
				t.Errorf("%q: %q, %v", subject, got, err)
			}
		} else if err == nil {
			t.Errorf("%q: taken as channel %q", subject, got)
		}
	}
}

// legal is what NATS demands of a subject to publish to, and we besides.
func legal(subject string) bool {
	if !server.IsValidLiteralSubject(subject) || subject[0] == '$' {
		return false
	}
	for i := range len(subject) {
		if c := subject[i]; c <= 0x20 || c >= 0x7f {
			return false
		}
	}
	return true
}

func checkChannel(t interface{ Fatalf(string, ...any) }, channel string) {
	subject, err := Subject(channel)
	if err != nil {
		if !errors.Is(err, ErrTooLong) || len(channel)*3 <= MaxSubject {
			t.Fatalf("%q: %v", channel, err)
		}
		return
	}
	if !legal(subject) {
		t.Fatalf("%q: subject %q is not legal", channel, subject)
	}
	if back, err := FromSubject(subject); err != nil || back != channel {
		t.Fatalf("%q: subject %q comes back as %q, %v", channel, subject, back, err)
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token[0] == '$' {
			t.Fatalf("%q: subject %q has a token of the system", channel, subject)
		}
	}
	p, err := Exact(channel)
	if err != nil || !p.Match(channel) || !p.Literal() {
		t.Fatalf("%q: exact pattern %q, %v", channel, p, err)
	}
	if again, err := ParsePattern(p.String()); err != nil || again != p {
		t.Fatalf("%q: pattern %q comes back as %q, %v", channel, p, again, err)
	}
}

func TestProperties(t *testing.T) {
	for _, name := range names {
		checkChannel(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		checkChannel(t, string(rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "bytes")))
		// Two different names, near each other, never share a subject.
		alphabet := rapid.SampledFrom([]byte(":.%*>$25AE a\xff"))
		a := string(rapid.SliceOfN(alphabet, 0, 6).Draw(t, "a"))
		b := string(rapid.SliceOfN(alphabet, 0, 6).Draw(t, "b"))
		checkChannel(t, a)
		sa, _ := Subject(a)
		sb, _ := Subject(b)
		if (a == b) != (sa == sb) {
			t.Fatalf("%q and %q: subjects %q and %q", a, b, sa, sb)
		}
	})
}

func FuzzSubject(f *testing.F) {
	for _, name := range names {
		f.Add(name)
	}
	f.Add(strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, channel string) { checkChannel(t, channel) })
}

func FuzzFromSubject(f *testing.F) {
	for _, s := range []string{"a.b", "%", "%.%", "%2E", "$SYS", "a%24", "%2e", ">", "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		channel, err := FromSubject(subject)
		if err != nil {
			return
		}
		if back, err := Subject(channel); err != nil || back != subject {
			t.Fatalf("%q means channel %q, whose subject is %q, %v", subject, channel, back, err)
		}
	})
}
