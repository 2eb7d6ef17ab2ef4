package event

import (
	"encoding/json"
	"testing"
)

// What is wrapped comes out of Parse as it went in, to the byte.
func TestWrap(t *testing.T) {
	f := func(name, data, criteria string) {
		t.Helper()
		var raw json.RawMessage
		if criteria != "" {
			raw = json.RawMessage(criteria)
		}
		ev, err := Parse(Wrap(name, json.RawMessage(data), raw), Enveloped)
		if err != nil || ev.Name != name || string(ev.Data) != data || string(ev.Criteria) != criteria || (ev.Criteria == nil) != (criteria == "") {
			t.Errorf("%q %s %s: got %q %s %s, %v", name, data, criteria, ev.Name, ev.Data, ev.Criteria, err)
		}
	}
	f("note", `{"a": 1.0,  "b":"<&>"}`, "")
	f("", `null`, `{}`)
	f(`say "ü"`, "[1,\n 2]", `{"role":["admin", "ops"]}`)
	f("x", `"text"`, "")
	f("x", `12345678901234567890.5`, "")
}
