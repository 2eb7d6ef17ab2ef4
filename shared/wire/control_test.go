package wire

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestControlMessages(t *testing.T) {
	s := Stream{Name: "EVENTS", Prefix: "acme"}
	for got, want := range map[string]string{
		s.NodeVerb(VerbRefresh): "acme.ctl.node.refresh", s.Hellos(): "acme.ctl.hello",
		s.Replies("abc"): "acme.ctl.reply.abc.", s.Bridges(): "acme.ctl.bridge",
		s.Revoked(): "EVENTS_REVOKED", s.RevokedPrefix(): "$KV.EVENTS_REVOKED.", s.RevokedStream(): "KV_EVENTS_REVOKED",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	name := "game:>"
	body, err := EncodeControl(Refreshed{Connections: 2, Closed: 1, Channel: &name})
	if err != nil {
		t.Fatal(err)
	}
	data, err := EncodeControl(Answer{Version: ControlVersion, ID: "x", Name: "n1", Body: body})
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	var r Refreshed
	if err := DecodeControl(data, &a); err != nil || a.ID != "x" || a.Version != ControlVersion {
		t.Errorf("comes back as %+v, %v", a, err)
	}
	if err := DecodeControl(a.Body, &r); err != nil || r.Connections != 2 || *r.Channel != name {
		t.Errorf("comes back as %+v, %v", r, err)
	}
	if _, err := EncodeControl(Refresh{ClientID: strings.Repeat("a", MaxControl)}); err == nil {
		t.Error("one that is too large is written")
	}
	for _, bad := range []string{"", "x", "[]", `{"id":7}`, strings.Repeat(" ", MaxControl) + "{}"} {
		if err := DecodeControl([]byte(bad), &a); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func TestRevocations(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 7, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, 300, -1).Draw(t, "name")
		for _, r := range []Revocation{{Subject: name, At: at, Until: at.Add(time.Hour)}, {TokenID: name, At: at, Until: at.Add(time.Hour)}} {
			key := r.Key()
			if strings.Trim(key[4:], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(key) != 47 {
				t.Fatalf("key %s", key)
			}
			if back, err := ParseRevocation(key, r.Encode()); err != nil || !reflect.DeepEqual(back, r) {
				t.Fatalf("comes back as %+v, %v", back, err)
			}
		}
	})
	if SubjectKey("a") == TokenKey("a") || SubjectKey("a") == SubjectKey("b") {
		t.Error("keys are shared")
	}
	for _, bad := range []string{
		"", "x", "{}", `{"sub":"a"}`, `{"sub":"b","at":"2026-11-21T12:00:00Z","until":"2026-11-21T13:00:00Z"}`,
		`{"sub":"a","at":"2026-11-21T12:00:00Z"}`, `{"sub":"a","until":"2026-11-21T13:00:00Z"}`,
		`{"jti":"a","at":"2026-11-21T12:00:00Z","until":"2026-11-21T13:00:00Z"}`,
		`{"sub":"a","jti":"a","at":"2026-11-21T12:00:00Z","until":"2026-11-21T13:00:00Z"}`,
	} {
		if r, err := ParseRevocation(SubjectKey("a"), []byte(bad)); err == nil || !strings.Contains(err.Error(), SubjectKey("a")) {
			t.Errorf("%s: taken as %+v, %v", bad, r, err)
		}
	}
}
