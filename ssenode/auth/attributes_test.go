package auth

import (
	"fmt"
	"testing"
)

// With authentication a client is what its token says, and nothing that it says
// of itself.
func TestAttributes(t *testing.T) {
	names := []string{"role", "org.id", "none", "plan"}
	query := func(name string) []string {
		return map[string][]string{"role": {"admin", ""}, "plan": {""}, "other": {"x"}}[name]
	}
	id := &Identity{Claims: Claims{"role": []any{"user", "tester"}, "org": map[string]any{"id": "o1"}, "plan": map[string]any{}}}
	on, off := &Guard{verify: &verifier{}}, &Guard{}
	f := func(g *Guard, id *Identity, want string) {
		t.Helper()
		if got := fmt.Sprint(g.Attributes(id, names, query)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(on, id, "[{role [user tester]} {org.id [o1]}]")
	f(on, nil, "[]")
	f(off, nil, "[{role [admin]}]")
	if got := on.Attributes(id, nil, query); got != nil {
		t.Errorf("nothing asked for: %v", got)
	}
}
