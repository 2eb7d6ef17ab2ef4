package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/shared/channel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestSecret(t *testing.T) {
	const text = "hunter2 and more"
	s := NewSecret(text)
	holder := struct {
		Name   string
		Secret Secret
		inner  Secret
		list   []*Secret
	}{"x", s, s, []*Secret{&s}}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "secret", s, "pointer", &s, "holder", holder)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "secret", s, "pointer", &s, "holder", holder)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%T", "%c", "%10.3s"} {
		for _, v := range []any{s, &s, holder, &holder, []Secret{s}, map[string]Secret{"a": s}, fmt.Errorf("x: %v", s)} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
	}
	for _, v := range []any{s, &s, holder} {
		js, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(js)
	}
	for _, part := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), fmt.Sprint([]byte("hunter2"))[1:20]} {
		if strings.Contains(b.String(), part) {
			t.Errorf("%q is printed: %s", part, b.String())
		}
	}
	if s.Reveal() != text || NewSecret("").Reveal() != "" || fmt.Sprint(Secret{}) != "" || fmt.Sprint(s) != redacted {
		t.Errorf("got %q, %q, %v", s.Reveal(), NewSecret("").Reveal(), s)
	}
}

func TestOpenWarnsOnce(t *testing.T) {
	var b bytes.Buffer
	var s Settings
	g, err := New(&s, slog.New(slog.NewTextHandler(&b, nil)))
	if err != nil || g.On() || g.Check(nil, "", nil) != nil || g.CheckClient(nil, "x") != nil || g.Ready() != nil {
		t.Errorf("open: %v", err)
	}
	if strings.Count(b.String(), "WARN") != 1 || !strings.Contains(b.String(), "no authentication") {
		t.Errorf("log: %s", b.String())
	}
	b.Reset()
	s.JWT.Secret = NewSecret("short")
	if g, err := New(&s, slog.New(slog.NewTextHandler(&b, nil))); err != nil || !g.On() {
		t.Errorf("with a key: %v", err)
	}
	if !strings.Contains(b.String(), "is short") || strings.Contains(b.String(), `"short"`) {
		t.Errorf("log: %s", b.String())
	}
}

func TestClaims(t *testing.T) {
	var c Claims
	dec := json.NewDecoder(strings.NewReader(`{"s":"x","n":12345678901234567890,"b":false,"e":"","null":null,"o":{"p":{"q":["a",1,null,{},[]," "]},"p.q":"dotted"},
		"a.b":"whole","a":{"b":"nested","c":"c"},"https://x.example/roles":["r"],"none":[]}`))
	dec.UseNumber()
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	f := func(name, want string, there bool) {
		t.Helper()
		got, ok := c.Values(name)
		if strings.Join(got, "|") != want || ok != there {
			t.Errorf("%s: got %q, %v", name, got, ok)
		}
	}
	f("s", "x", true)
	f("n", "12345678901234567890", true)
	f("b", "false", true)
	f("e", "", false)
	f("null", "", false)
	f("o", "", false)
	f("o.p.q", "dotted", true)
	f("o.p", "", false)
	f("a.b", "whole", true)
	f("a.c", "c", true)
	f("https://x.example/roles", "r", true)
	f("none", "", true)
	f("missing", "", false)
	f("s.x", "", false)
	f("", "", false)
	f(".", "", false)
}

func TestMoment(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1.5": 1, "1e3": 1000, "1e400": 253402300799, "-1e400": -253402300799, "1e18": 253402300799} {
		at, ok := Claims{"exp": json.Number(text)}.moment("exp")
		if !ok || at.Unix() != want {
			t.Errorf("%s: got %d, %v", text, at.Unix(), ok)
		}
	}
	for _, v := range []any{"1", nil, true, map[string]any{}} {
		if _, ok := (Claims{"exp": v}).moment("exp"); ok {
			t.Errorf("%v is taken", v)
		}
	}
	if at, ok := (Claims{}).moment("exp"); !ok || !at.IsZero() {
		t.Errorf("none: %v, %v", at, ok)
	}
}

// What one bearer may read is not written into the list that all share, nor into
// what another may.
func TestGrantsAreApart(t *testing.T) {
	g := &Guard{s: &Settings{ChannelsClaim: "channels"}, verify: &verifier{}, Revocations: newRevocations()}
	if err := g.s.PublicChannels.Decode("a,b,c"); err != nil { // in memory there is room for one more
		t.Fatal(err)
	}
	granted := func(name string) []channel.Pattern {
		return g.Granted(&Identity{Claims: Claims{"channels": name}}, "")
	}
	anna, eve := granted("anna"), granted("eve")
	for name, list := range map[string][]channel.Pattern{"anna": anna, "eve": eve} {
		if got := list[len(list)-1].String(); len(list) != 4 || got != name {
			t.Errorf("%s may read %d, the last of them %s", name, len(list), got)
		}
	}
	if n := len(g.Granted(nil, "")); n != 3 {
		t.Errorf("nobody may read %d", n)
	}
}

// No two subjects can go by one clientId, and every form is legal in one.
func TestPathSafe(t *testing.T) {
	f := func(subject, want string) {
		t.Helper()
		if got := PathSafe(subject); got != want {
			t.Errorf("%q: got %q, want %q", subject, got, want)
		}
	}
	f("anna_B-7", "anna_B-7")
	f("auth0|5", "auth0~7C5")
	f("a.b@c", "a~2Eb~40c")
	f("~", "~7E")
	f("ü", "~C3~BC")
	f(strings.Repeat("a", 40), strings.Repeat("a", 40))
	f(strings.Repeat("a", 41), "~~C0F8BD4DBC2B0C03107C1C37913F2A75")
	if got := PathSafe(strings.Repeat("é", 300)); len(got) != 34 || got[:2] != "~~" {
		t.Errorf("long: %q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]byte("ab.~|2E\xff"))
		one := string(rapid.SliceOfN(alphabet, 1, 20).Draw(t, "one"))
		two := string(rapid.SliceOfN(alphabet, 1, 20).Draw(t, "two"))
		id := &Identity{Subject: one}
		if !id.Owns(PathSafe(one)) || !id.Owns(PathSafe(one)+".tab") {
			t.Fatalf("%q does not own its form", one)
		}
		if one != two && (id.Owns(PathSafe(two)) || id.Owns(PathSafe(two)+".tab") || PathSafe(one) == PathSafe(two)) {
			t.Fatalf("%q goes by the names of %q", one, two)
		}
	})
	if (&Identity{}).Owns("") || (&Identity{}).Owns(".x") || (*Identity)(nil).Owns("a") {
		t.Error("nobody owns a name")
	}
}

// The error of any carrier is one with a code, and what it finds was sent.
func FuzzToken(f *testing.F) {
	f.Add("Bearer a", "", "b", "", "c")
	f.Add("Bearer a", "bearer  b", "", "", "")
	f.Add("Basic x", "Bearer", "q", "q", "")
	f.Add("BEARER a b", "\x00", "", "", "c")
	f.Fuzz(func(t *testing.T, h1, h2, q1, q2, cookie string) {
		c := &Carrier{Authorization: []string{h1, h2}, Query: []string{q1, q2}, Cookies: []string{cookie}}
		token, byCookie, err := c.Token()
		var u *Unauthorized
		if err != nil && (!errors.As(err, &u) || u.Code != Malformed || token != "") {
			t.Fatalf("%q: %v", token, err)
		}
		inHeader := false
		for _, h := range []string{h1, h2} {
			h = strings.TrimSpace(h)
			if token != "" && len(h) > 6 && strings.EqualFold(h[:6], "bearer") && strings.HasSuffix(h, token) {
				inHeader = true
			}
		}
		switch {
		case token == "" || inHeader || token == q1 || token == q2:
		case token != cookie || !byCookie || q1 != "" || q2 != "":
			t.Fatalf("%q is from nowhere", token)
		}
		// Whatever it is, it has an answer and no panic.
		v := newVerifier(&Settings{}, shared, func(t2 *jwtToken) (any, error) { return []byte("key"), nil })
		if id, err := v.verify(token); id != nil || err == nil {
			if id == nil || !strings.Contains(token, ".") {
				t.Fatalf("%q: %v, %v", token, id, err)
			}
		}
	})
}

// Any payload that is signed has an answer, and times do not overflow.
func FuzzClaims(f *testing.F) {
	f.Add(`{"exp":1e999,"nbf":-1,"sub":1}`, "a.b")
	f.Add(`{"a":{"b":["c",1]},"aud":["x"]}`, "a.b")
	f.Add(`null`, ".")
	f.Add(`{"exp":null}`, "exp")
	f.Fuzz(func(t *testing.T, payload, name string) {
		v := newVerifier(&Settings{}, shared, func(*jwtToken) (any, error) { return []byte("key"), nil })
		id, err := v.verify(signed(payload))
		if err != nil {
			return
		}
		if !id.Until.IsZero() && time.Now().After(id.Until) {
			t.Fatalf("%s is taken", payload)
		}
		values, ok := id.Claims.Values(name)
		if len(values) > 0 && !ok {
			t.Fatalf("%s of %s: %q", name, payload, values)
		}
		for _, value := range values {
			if value == "" {
				t.Fatalf("%s of %s: an empty value", name, payload)
			}
		}
		g := &Guard{s: &Settings{ChannelsClaim: name}, verify: v}
		if err := g.s.UserChannels.Decode("u:{claim.sub}:{claim.a.b}"); err != nil {
			t.Fatal(err)
		}
		g.Granted(id, "x")
	})
}
