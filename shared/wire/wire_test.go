package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIDs(t *testing.T) {
	id := ID{Epoch: "Ab9", Seq: 17}
	if id.String() != "Ab9-17" {
		t.Errorf("got %s", id)
	}
	for _, s := range []string{"", "-", "a", "a-", "-1", "a-x", "a-01", "a-+1", "a--1", "a b-1", "é-1", "a-18446744073709551616", strings.Repeat("a", MaxEpoch+1) + "-1", "a:b-1"} {
		if got, err := ParseID(s); err == nil {
			t.Errorf("%q: taken as %v", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := ID{rapid.StringMatching(`[A-Za-z0-9]{1,32}`).Draw(t, "epoch"), rapid.Uint64().Draw(t, "seq")}
		text := id.String()
		if back, err := ParseID(text); err != nil || back != id {
			t.Fatalf("%q comes back as %v, %v", text, back, err)
		}
		// Else a cross-origin browser sends a preflight at each reconnection.
		if len(text) > 128 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~") != "" {
			t.Fatalf("%q needs a preflight", text)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("e1-7")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Fatalf("%q is read as %q", s, id)
		}
	})
}

func TestStamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Stamp{rapid.Uint64().Draw(t, "term"), rapid.Uint64().Draw(t, "number"), rapid.StringMatching(`[A-Za-z0-9+]{0,64}`).Draw(t, "position")}
		text := s.String()
		if len(text) > MaxStamp {
			t.Fatalf("%q is %d bytes, more than %d", text, len(text), MaxStamp)
		}
		if back, err := ParseStamp(text); err != nil || back != s {
			t.Fatalf("%q comes back as %v, %v", text, back, err)
		}
	})
	for _, s := range []string{"", "1", "1 2", "1 2 ", "x 2 -", "1 x -", "1 2 3 4", "-1 2 -"} {
		if got, err := ParseStamp(s); err == nil {
			t.Errorf("%q: taken as %v", s, got)
		}
	}
}

func TestPulses(t *testing.T) {
	p := Pulse{Epoch: "e1", Term: 3, Bridge: "b", Time: time.Unix(1, 0).UTC(), Marked: true, Since: 7, Routes: "r", Patterns: "p", Redis: "s", Leaving: true, Waited: 9}
	for _, digest := range [][]byte{nil, []byte("\x01a\x0a\n\n")} {
		p.Digest = digest
		if back, err := ParsePulse(p.Encode()); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("comes back as %+v, %v", back, err)
		}
	}
	for _, s := range []string{"", "{}", "x", `{"epoch":"a-b"}`, `{"epoch":"` + strings.Repeat("a", MaxEpoch+1) + `"}`} {
		if got, err := ParsePulse([]byte(s)); err == nil {
			t.Errorf("%q: taken as %+v", s, got)
		}
	}
}

func TestStreamNames(t *testing.T) {
	s := Stream{Name: "SLUICE", Prefix: "sluice"}
	if err := s.Validate(); err != nil || s.Log() != "sluice.log." || s.Live() != "sluice.live." {
		t.Errorf("%v, %s, %s", err, s.Log(), s.Live())
	}
	for _, bad := range []Stream{{"", "a"}, {"a.b", "a"}, {"a b", "a"}, {"a", ""}, {"a", "a.b"}, {"a", "$a"}, {"a", "*"}} {
		err := bad.Validate()
		if err == nil || !strings.Contains(err.Error(), "STREAM_") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestDigests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringN(0, 30, -1), rapid.Uint64()).Draw(t, "subjects")
		var d Digest
		for range 2 { // it can be used again
			for subject, seq := range want {
				d.Add(subject, seq-1)
				d.Add(subject, seq)
			}
			b := d.Take()
			got := map[string]uint64{}
			if err := EachInDigest(b, func(s []byte, seq uint64) { got[string(s)] = seq }); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			if len(b) > 0 && EachInDigest(b[:len(b)-1], func([]byte, uint64) {}) == nil {
				t.Fatal("a digest cut short is taken")
			}
			if d.Size() != 0 || len(d.Take()) > 0 {
				t.Fatal("not empty after Take")
			}
		}
	})
}

func FuzzDigest(f *testing.F) {
	f.Add([]byte("\x01a\x0a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = EachInDigest(b, func(s []byte, _ uint64) {
			if !bytes.Contains(b, s) {
				t.Fatal("bytes from nowhere")
			}
		})
	})
}

func TestMarks(t *testing.T) {
	m := Mark{Epoch: "e1", Term: 2, Reason: GapUpstream, Time: time.Unix(1, 0).UTC(), Subjects: []string{"a.b"}}
	if back, err := ParseMark(m.Encode()); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("comes back as %+v, %v", back, err)
	}
	for _, s := range []string{"", "{}", `{"epoch":"e","reason":"x"}`, `{"epoch":"-","reason":"dropped"}`} {
		if got, err := ParseMark([]byte(s)); err == nil {
			t.Errorf("%q: taken as %+v", s, got)
		}
	}
}
