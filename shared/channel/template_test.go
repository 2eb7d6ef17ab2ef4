package channel

import (
	"errors"
	"strings"
	"testing"
)

func anyName(name string) bool { return name != "" }

func TestTemplates(t *testing.T) {
	values := map[string][]string{
		"sub": {"u1"}, "groups": {"a", "b"}, "none": {}, "star": {"*"}, "more": {">"}, "escape": {"%2A"},
		"colon": {"a:*"}, "odd": {"x;y,z=1 "}, "blank": {""}, "dots": {"$SYS.x"},
	}
	gone := errors.New("gone")
	value := func(name string) ([]string, error) {
		if v, ok := values[name]; ok {
			return v, nil
		}
		return nil, gone
	}
	f := func(text string, want ...string) {
		t.Helper()
		tm, err := ParseTemplate(text, anyName, "")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			return
		}
		list, err := tm.Fill(10, value)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		got := make([]string, len(list))
		for i, p := range list {
			got[i] = p.Subject()
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	f("plain", "plain")
	f("user:{sub}", "user.u1")
	f("user:{sub}:>", "user.u1.>")
	f("g:{groups}", "g.a", "g.b")
	f("g:{groups}:{groups}", "g.a.a", "g.a.b", "g.b.a", "g.b.b")
	f("g:{none}")
	f("user:{star}", "user.%2A")
	f("user:{more}", "user.%3E")
	f("user:{escape}", "user.%252A")
	f("user:{colon}", "user.a.%2A")
	f("user:{odd}", "user.x;y,z=1%20")
	f("user:{blank}", "user.%")
	f("{dots}", "%24SYS%2Ex")
	f("a{dots}", "a$SYS%2Ex")

	g := func(text, part string) {
		t.Helper()
		if _, err := ParseTemplate(text, func(name string) bool { return name == "sub" }, "{sub}"); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: got %v, want %q", text, err, part)
		}
	}
	g("", "empty")
	g("a:{x}", "want {sub}")
	g("a:{sub", "partner")
	g("a:}", "partner")
	// What a value could turn into a wildcard or another byte.
	g("a:*{sub}", "%2A")
	g("a:{sub}>", "%3E")
	g("a:>{sub}", "%3E")
	g("a:%2{sub}", "hexadecimal")
	g("a:%{sub}", "hexadecimal")
	g(">:{sub}", "last")

	for text, want := range map[string]string{"a:{other}": "gone", "a:{groups}:{groups}:{groups}:{groups}": "at most 10"} {
		tm, err := ParseTemplate(text, anyName, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tm.Fill(10, value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// Whatever the value, a filled template matches nothing but channels that have
// the template's text around it, and has no wildcard that the template has not.
func FuzzTemplate(f *testing.F) {
	for _, name := range names {
		f.Add("user:{a}:x", name)
	}
	f.Add("{a}:*", "a:>")
	f.Add("a%20{a}{a}:>", "$")
	f.Fuzz(func(t *testing.T, text, value string) {
		tm, err := ParseTemplate(text, anyName, "")
		if err != nil {
			return
		}
		list, err := tm.Fill(4, func(string) ([]string, error) { return []string{value}, nil })
		if err != nil {
			return
		}
		if len(list) != 1 {
			t.Fatalf("%q with %q: %d patterns", text, value, len(list))
		}
		model, err := ParsePattern(strings.Join(tm.texts, "x"))
		if err != nil {
			t.Fatal(err)
		}
		stars := func(p Pattern) (n int) {
			for token := range strings.SplitSeq(p.Subject(), ".") {
				if token == "*" || token == ">" {
					n++
				}
			}
			return n
		}
		if got, want := stars(list[0]), stars(model); got != want {
			t.Fatalf("%q with %q: %q has %d wildcards, want %d", text, value, list[0], got, want)
		}
		if len(tm.names) == 1 && list[0].Literal() {
			// The one channel is text, value, text, and nothing else.
			name, err := FromSubject(list[0].Subject())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(name, value) {
				t.Fatalf("%q with %q: channel %q", text, value, name)
			}
		}
	})
}
