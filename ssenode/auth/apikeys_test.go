package auth

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Only whole keys count, as a bearer's token; nothing prints them.
func TestAPIKeys(t *testing.T) {
	var s Settings
	const one = "0123456789abcdef"
	if err := s.APIKeys.Decode(" " + one + ", fedcba9876543210 "); err != nil {
		t.Fatal(err)
	}
	g, err := New(&s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !g.TakesKeys() {
		t.Error("takes no keys")
	}
	for field, want := range map[string]bool{
		"Bearer " + one: true, "bearer fedcba9876543210": true, "Bearer " + one[1:]: false, "Bearer " + one + "x": false,
		one: false, "Basic " + one: false, "Bearer ": false, "": false, "Bearer [2 keys]": false,
	} {
		if got := g.HasKey([]string{field}); got != want {
			t.Errorf("%q: %v", field, got)
		}
	}
	if b, err := json.Marshal(s); err != nil || strings.Contains(string(b)+fmt.Sprintf("%v %+v %#v", s, s, s.APIKeys), one) {
		t.Errorf("printed: %v", err)
	}
}

// A clientId tells its subject where its form does.
func TestSubjectOf(t *testing.T) {
	for _, subject := range []string{"anna", "auth0|5", "a.b", "ü ", "x"} {
		for _, rest := range []string{"", ".tab", ".a~b"} {
			if got, ok := SubjectOf(PathSafe(subject) + rest); !ok || got != subject {
				t.Errorf("%s%s: %q %v", PathSafe(subject), rest, got, ok)
			}
		}
	}
	for _, id := range []string{PathSafe(strings.Repeat("x", 99)), "", ".a", "~", "~4", "~4g.x"} {
		if got, ok := SubjectOf(id); ok {
			t.Errorf("%s: %q", id, got)
		}
	}
}
