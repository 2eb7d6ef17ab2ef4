package event

import (
	"encoding/base64"
	"errors"
	"testing"
)

func TestParse(t *testing.T) {
	f := func(format Format, payload, name, data string) {
		t.Helper()
		ev, err := Parse([]byte(payload), format)
		if err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		if ev.Name != name || string(ev.Data) != data {
			t.Errorf("%q: got name %q data %q, want %q %q", payload, ev.Name, ev.Data, name, data)
		}
	}
	f(Auto, `hello`, "", `hello`)
	f(Auto, ``, "", ``)
	f(Auto, `{"event":"bid","data":{"a":1}}`, "bid", `{"a":1}`)
	f(Auto, " \n\t"+`{"data":"x","event":"bid"}`, "bid", `"x"`)
	f(Auto, `{"event":"bid","data":null}`, "bid", `null`)
	f(Auto, `{"event":"","data":1}`, "", `1`)
	f(Auto, `{"event":"bid","data":{"a":1},"criteria":{"role":"admin"}}`, "bid", `{"a":1}`)
	f(Auto, `{"message":{"a":1},"criteria":{"role":"admin"}}`, "", `{"a":1}`)
	f(Auto, `{"message":"hi","criteria":{}}`, "", `"hi"`)
	f(Enveloped, `{"message":"hi","criteria":{}}`, "", `"hi"`)
	f(Auto, `{"type":"t","message":"hi","criteria":{}}`, "", `{"message":"hi","type":"t"}`)
	f(Raw, `{"message":"hi","criteria":{}}`, "", `{"message":"hi","criteria":{}}`)
	f(Auto, `{"criteria":{"a":1},"data":1}`, "", `{"criteria":{"a":1},"data":1}`)
	// What is almost an envelope is a payload like any other.
	f(Auto, `{"event":7,"data":1}`, "", `{"event":7,"data":1}`)
	f(Auto, `{"event":null,"data":1}`, "", `{"event":null,"data":1}`)
	f(Auto, `{"event":"x"}`, "", `{"event":"x"}`)
	f(Auto, `{"Event":"x","Data":1}`, "", `{"Event":"x","Data":1}`)
	f(Auto, `{"Event":"x","data":1,"x":"\"event\""}`, "", `{"Event":"x","data":1,"x":"\"event\""}`)
	f(Auto, `[{"event":"x","data":1}]`, "", `[{"event":"x","data":1}]`)
	f(Auto, `{"event":"x","data":1`, "", `{"event":"x","data":1`)
	f(Auto, `{"event":"x","data":1} trailing`, "", `{"event":"x","data":1} trailing`)
	f(Auto, `{"event":"x\ny","data":1}`, "", `{"event":"x\ny","data":1}`)
	f(Auto, `{"event":"x\ry","data":1}`, "", `{"event":"x\ry","data":1}`)
	f(Raw, `{"event":"x","data":1}`, "", `{"event":"x","data":1}`)
	f(Enveloped, `{"event":"x","data":1}`, "x", `1`)
	bin := "a\xffb"
	f(Auto, bin, BinaryName, base64.StdEncoding.EncodeToString([]byte(bin)))
	f(Raw, bin, BinaryName, base64.StdEncoding.EncodeToString([]byte(bin)))
}

func TestEnvelopedRefusesTheRest(t *testing.T) {
	for _, payload := range []string{"", "x", "\xff", `{"event":1,"data":2}`} {
		if _, err := Parse([]byte(payload), Enveloped); !errors.Is(err, ErrNotEnvelope) {
			t.Errorf("%q: got %v, want ErrNotEnvelope", payload, err)
		}
	}
}

func TestEnvelopeComesBack(t *testing.T) {
	f := func(name, data, want string) {
		t.Helper()
		ev, err := Parse(Envelope(name, []byte(data)), Auto)
		if err != nil || ev.Name != name || string(ev.Data) != want {
			t.Errorf("%q %q: got %q %q, %v", name, data, ev.Name, ev.Data, err)
		}
	}
	f("n", `{"a":[1,2]}`, `{"a":[1,2]}`)
	f("n", "plain text", `"plain text"`)
	f("n", "", `""`)
	f("ü\"", `"s"`, `"s"`)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"event":"x","data":1}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		ev, err := Parse(payload, Auto)
		if err != nil {
			t.Fatalf("auto refuses nothing: %v", err)
		}
		if !ValidName(ev.Name) {
			t.Fatalf("name %q would break the frame", ev.Name)
		}
		if ev.Name == "" && ev.Criteria == nil && len(payload) > 0 && len(ev.Data) == 0 {
			t.Fatalf("payload %q lost", payload)
		}
	})
}

// What was to be for some clients only is never for all because of a mistake in it.
func TestBrokenConditionalIsForNobody(t *testing.T) {
	for _, payload := range []string{
		"{\"event\":\"x\",\"data\":\"caf\xe9\",\"criteria\":{\"role\":\"admin\"}}",
		`{"event":null,"data":1,"criteria":{"role":"admin"}}`,
		`{"event":"a\nb","data":1,"criteria":{"role":"admin"}}`,
		`{"event":"x","criteria":{"role":"admin"}}`,
		`{"message":1,"event":"e","criteria":{"role":"admin"}}`,
	} {
		ev, err := Parse([]byte(payload), Auto)
		if err != nil || ev.Criteria == nil {
			t.Errorf("%q: for all: %+v, %v", payload, ev, err)
			continue
		}
		if c, err := ParseCriteria(ev.Criteria); err == nil {
			t.Errorf("%q: for those of %v", payload, c)
		}
		if ev, err := Parse([]byte(payload), Raw); err != nil || ev.Criteria != nil {
			t.Errorf("%q: raw: %+v, %v", payload, ev, err)
		}
	}
}
