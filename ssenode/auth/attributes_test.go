package auth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sluice/shared/event"
)

// With authentication a client is what its token says, and nothing that it says
// of itself.
func TestAttributes(t *testing.T) {
	query := map[string][]string{"role": {"admin", ""}, "plan": {""}, "other": {"x"}}
	id := &Identity{Claims: Claims{
		"role": []any{"user", "tester"}, "org": map[string]any{"id": "o1"}, "plan": map[string]any{}, "age": json.Number("7"),
		"sub": "s", "exp": json.Number("9"), "aud": "a", "iss": "i", "nbf": json.Number("1"), "iat": json.Number("1"), "jti": "j", "channels": []any{"c"},
	}}
	names := []string{"age", "aud", "channels", "exp", "jti", "org.id", "other", "plan", "role", "sub"}
	f := func(on bool, id *Identity, setting, want string) {
		t.Helper()
		g := &Guard{s: &Settings{ChannelsClaim: "channels", Attributes: strings.Split(setting, ",")}}
		if on {
			g.verify = &verifier{}
		}
		a, got := g.Attributes(id, query), []string{}
		for _, name := range names {
			if v := a.Values(name); v != nil {
				got = append(got, fmt.Sprint(name, v))
			}
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: got %s, want %s", setting, got, want)
		}
	}
	f(true, id, "role,plan,org.id,none,role", "org.id[o1] role[user tester]")
	f(true, id, "*", "age[7] role[user tester] sub[s]")
	f(true, id, "", "")
	f(true, nil, "*", "")
	f(false, nil, "role,plan,org.id,none", "role[admin]")
	f(false, nil, "*", "other[x] role[admin]")
	f(false, nil, "", "")
}

func TestAttributesMatch(t *testing.T) {
	g := &Guard{s: &Settings{Attributes: []string{"*"}}}
	a := g.Attributes(nil, map[string][]string{"role": {"user", "tester"}, "plan": {"pro"}, "age": {"7"}, "": {"empty"}, "long": {strings.Repeat("x", 300)}})
	if a != g.Attributes(nil, map[string][]string{"long": {strings.Repeat("x", 300)}, "role": {"user", "tester"}, "plan": {"pro"}, "age": {"7"}, "": {"empty"}}) {
		t.Error("the same attributes are not equal")
	}
	f := func(a Attributes, criteria string, want bool) {
		t.Helper()
		c, err := event.ParseCriteria(json.RawMessage(criteria))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Match(c); got != want {
			t.Errorf("%s: %v", criteria, got)
		}
	}
	f(a, `{}`, true)
	f(a, `{"role":"user"}`, true)
	f(a, `{"role":"tester"}`, true)
	f(a, `{"role":"admin"}`, false)
	f(a, `{"role":["admin","tester"]}`, true)
	f(a, `{"role":["admin"]}`, false)
	f(a, `{"role":[]}`, false)
	f(a, `{"role":"user","plan":"pro"}`, true)
	f(a, `{"role":"user","plan":"free"}`, false)
	f(a, `{"age":7}`, true)
	f(a, `{"age":"7","":"empty"}`, true)
	f(a, `{"age":8}`, false)
	f(a, `{"aaa":"7"}`, false)
	f(a, `{"zzz":"7"}`, false)
	f(a, `{"plan":"pro","qqq":1,"role":"user"}`, false)
	f(Attributes{}, `{}`, true)
	f(Attributes{}, `{"role":"user"}`, false)
	f(Attributes{}, `{"role":[]}`, false)
	if n := testing.AllocsPerRun(100, func() { a.Match(event.Criteria{{Name: "role", Values: nil}}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is too long is cut at an attribute, in the order of names.
func TestAttributesAreBounded(t *testing.T) {
	g := &Guard{s: &Settings{Attributes: []string{"*"}}}
	query := map[string][]string{"a": {"1"}, "b": {strings.Repeat("x", maxAttributes)}, "c": {"1"}}
	a := g.Attributes(nil, query)
	if a.Values("a") == nil || a.Values("b") != nil || a.Values("c") != nil {
		t.Error(a.Values("a"), len(a.Values("b")), a.Values("c"))
	}
}
