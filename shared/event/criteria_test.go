package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseCriteria(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		c, err := ParseCriteria(json.RawMessage(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := fmt.Sprintf("%q", c); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	f(`{}`, `[]`)
	f(`{"role":"admin"}`, `[{"role" ["admin"]}]`)
	f(`{"plan":["a","b"],"age":7,"beta":true}`, `[{"age" ["7"]} {"beta" ["true"]} {"plan" ["a" "b"]}]`)
	f(`{"id":12345678901234567890,"x":1.50}`, `[{"id" ["12345678901234567890"]} {"x" ["1.50"]}]`)
	f(`{"none":[]}`, `[{"none" []}]`)
	f(`{"":"","a":"\u00fc"}`, `[{"" [""]} {"a" ["ü"]}]`)
	f(`{"mixed":[1,"1",false]}`, `[{"mixed" ["1" "1" "false"]}]`)
}

func TestParseCriteriaRefuses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if c, err := ParseCriteria(json.RawMessage(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want an error with %q", text, c, err, want)
		}
	}
	for _, text := range []string{`null`, `[]`, `"admin"`, `7`, `false`, `[{"role":"admin"}]`} {
		f(text, "want an object")
	}
	for _, text := range []string{`{"role":null}`, `{"role":{"eq":"admin"}}`, `{"role":[["admin"]]}`, `{"role":["a",null]}`} {
		f(text, `"role": want a text`)
	}
	many := func(n int, each string) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(each, i))
		}
		return strings.Join(list, ",")
	}
	f("{"+many(33, `"a%d":1`)+"}", "33 attributes, at most 32")
	f(`{"a":[`+many(257, "%d")+`]}`, "more than 256 values")
}
