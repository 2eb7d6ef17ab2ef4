package publisher

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/shared/event"
)

// Whatever is accepted as an item can be read by a node, and says what was posted.
func FuzzItem(f *testing.F) {
	for _, seed := range []string{`{"channel":"a","data":1}`, `{"channel":"","event":"e","data":{"a":[1,"\u00fc"]},"criteria":{"role":["x"]}}`,
		`{"channel":"a","data":"\ud800"}`, `{"channel":"a","event":"\n","data":1}`, `{"channel":"a","criteria":{},"data":"x"}`, `[]`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, r := readItem(raw)
		if r != nil {
			if r.text == "" || r.why.status() == 0 {
				t.Fatalf("%q: %+v", raw, r)
			}
			return
		}
		var asked map[string]json.RawMessage
		if err := json.Unmarshal(raw, &asked); err != nil {
			t.Fatalf("%q is accepted: %v", raw, err)
		}
		data, criteria := asked["data"], asked["criteria"]
		if name := asked["event"]; criteria != nil || name != nil && string(name) != "null" {
			ev, err := event.Parse(p.payload, event.Enveloped)
			if err != nil || string(ev.Data) != string(data) || string(ev.Criteria) != string(criteria) {
				t.Fatalf("%q became %q: %+v, %v", raw, p.payload, ev, err)
			}
			return
		}
		var text string
		if json.Unmarshal(data, &text) != nil || data[0] != '"' {
			text = string(data)
		}
		if string(p.payload) != text {
			t.Fatalf("%q became %q", raw, p.payload)
		}
	})
}

// Names of clients and groups never reach another channel than theirs.
func FuzzPlaces(f *testing.F) {
	for _, name := range []string{"a", "*", ">", "a:b", "%2A", "{group}", ".", "$", "ü", "\x00", "a%"} {
		f.Add(name)
	}
	cfg := ServeConfig{BroadcastChannel: "all", ClientChannel: "sse:channel:{clientId}", GroupChannel: "sse:group:{group}:x"}
	p, err := newPlaces(&cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got, r := p.ofClient(name); r == nil && (got != "sse:channel:"+name || strings.Contains(name, ":")) {
			t.Fatalf("client %q: %q", name, got)
		}
		if got, r := p.ofGroup(name); r == nil && (got != "sse:group:"+name+":x" || strings.Contains(name, ":")) {
			t.Fatalf("group %q: %q", name, got)
		}
	})
}
