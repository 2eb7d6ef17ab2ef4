package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/embedded"
)

type jwtToken = jwt.Token

var b64 = base64.RawURLEncoding.EncodeToString

// signed is a token of HS256 with the key "key" and any payload.
func signed(payload string) string {
	text := b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(payload))
	m := hmac.New(sha256.New, []byte("key"))
	m.Write([]byte(text))
	return text + "." + b64(m.Sum(nil))
}

// issuer is an identity provider: keys by name, and a switch.
type issuer struct {
	*httptest.Server
	t     *testing.T
	asked atomic.Int64

	mu     sync.Mutex    // guards the following fields
	hold   chan struct{} // not nil: answers wait until it is closed
	keys   map[string]*ecdsa.PrivateKey
	listed map[string]bool
	answer string // instead of keys
	status int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, keys: map[string]*ecdsa.PrivateKey{}, listed: map[string]bool{}, status: 200}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		hold := i.hold
		i.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		w.WriteHeader(i.status)
		if i.answer != "" {
			_, _ = w.Write([]byte(i.answer))
			return
		}
		list := []any{}
		for kid := range i.listed {
			raw, err := i.keys[kid].PublicKey.Bytes()
			if err != nil {
				t.Error(err)
			}
			list = append(list, map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(raw[1:33]), "y": b64(raw[33:])})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": list})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) set(status int, answer string, listed ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status, i.answer, i.listed = status, answer, map[string]bool{}
	for _, kid := range listed {
		i.listed[kid] = true
	}
}

// holds lets answers wait until the function is called.
func (i *issuer) holds() (release func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	hold := make(chan struct{})
	i.hold = hold
	return sync.OnceFunc(func() { close(hold) })
}

// token is signed with the key of that name, which need not be listed.
func (i *issuer) token(kid string) string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys[kid] == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			i.t.Fatal(err)
		}
		i.keys[kid] = k
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": kid})
	token.Header["kid"] = kid
	text, err := token.SignedString(i.keys[kid])
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// guard is one with the issuer's keys, with less time between requests.
func (i *issuer) guard(log *slog.Logger, pause time.Duration) *Guard {
	i.t.Helper()
	var s Settings
	s.JWKS.URL, s.JWKS.Refresh = i.URL+"/keys?password=hidden", time.Hour
	g, err := New(&s, log)
	if err != nil {
		i.t.Fatal(err)
	}
	g.jwks.pause = pause
	return g
}

func wantCode(t *testing.T, g *Guard, token string, want Code) {
	t.Helper()
	_, err := g.verify.verify(token)
	var u *Unauthorized
	if want == "" && err == nil || errors.As(err, &u) && u.Code == want {
		return
	}
	t.Errorf("got %v, want %q", err, want)
}

// The keys last seen go on working while the address is away, or answers
// nonsense; a key that is taken from the set does not.
func TestKeysStay(t *testing.T) {
	i := newIssuer(t)
	var b bytes.Buffer
	g := i.guard(slog.New(slog.NewTextHandler(&b, nil)), 0)
	a, other := i.token("a"), i.token("other")
	i.set(500, "")
	if _, err := g.verify.verify(a); !errors.Is(err, ErrNoKeys) || g.Ready() == nil {
		t.Errorf("without keys: %v, ready %v", err, g.Ready())
	}
	i.set(200, "", "a")
	wantCode(t, g, a, "")
	if g.Ready() != nil {
		t.Errorf("with keys: %v", g.Ready())
	}
	wantCode(t, g, other, BadSignature)
	for _, answer := range []string{"<html>", `{}`, `[]`, `{"keys":`, `{"keys":7}`, strings.Repeat(" ", setBytes) + `{"keys":[]}`} {
		i.set(200, answer)
		if err := g.jwks.refresh(0); err == nil {
			t.Errorf("%.20q is taken", answer)
		}
		wantCode(t, g, a, "")
	}
	i.set(404, `{"keys":[]}`)
	if err := g.jwks.refresh(0); err == nil {
		t.Error("404 is taken")
	}
	wantCode(t, g, a, "")
	if _, err := g.verify.verify(other); !errors.Is(err, ErrNoKeys) {
		t.Errorf("an unknown key while it is away: %v", err) // it may be a new one
	}
	i.set(200, "", "other")
	wantCode(t, g, other, "")
	wantCode(t, g, a, BadSignature)
	i.Close()
	_ = g.jwks.refresh(0)
	wantCode(t, g, other, "")
	if strings.Contains(b.String(), "hidden") || strings.Contains(b.String(), i.URL) || strings.Count(b.String(), "cannot be fetched") != 3 {
		t.Errorf("log: %s", b.String())
	}
}

// What is no public key for signatures is left out, and told if nothing is left.
func TestUsableKeys(t *testing.T) {
	i := newIssuer(t)
	var b bytes.Buffer
	g := i.guard(slog.New(slog.NewTextHandler(&b, nil)), 0)
	i.set(200, `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"},{"kty":"RSA"},{"kty":"OKP","crv":"Ed448","x":"AA"},null,7,{},
		{"kty":"EC","crv":"P-256","use":"enc","x":"AA","y":"AA"}]}`)
	if err := g.jwks.refresh(0); err != nil || g.jwks.set.Load().n != 0 || !strings.Contains(b.String(), "no usable key") || !strings.Contains(b.String(), "listed=7") {
		t.Errorf("%v, %d keys; log: %s", err, g.jwks.set.Load().n, b.String())
	}
	wantCode(t, g, i.token("a"), BadSignature)
}

// An RSA key of a set is as long as one in a file has to be.
func TestShortKeys(t *testing.T) {
	i := newIssuer(t)
	g := i.guard(quiet, 0)
	f := func(bits int, want Code) {
		t.Helper()
		k := rsaKey(t, bits)
		i.set(200, fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"r","n":%q,"e":"AQAB"}]}`, b64(k.N.Bytes())))
		if err := g.jwks.refresh(0); err != nil || g.jwks.set.Load().n != 1 {
			t.Fatalf("%d bits: %v", bits, err)
		}
		text, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "a"}).SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, g, text, want)
	}
	f(2048, "")
	f(1024, BadSignature)
}

// Unknown keys cause one request at a time and no more than one in the pause;
// who comes meanwhile waits for it, so that nobody with a new key is refused.
func TestUnknownKeys(t *testing.T) {
	i := newIssuer(t)
	g := i.guard(quiet, time.Hour)
	var tokens []string
	for _, kid := range []string{"a", "b", "c", "d"} {
		tokens = append(tokens, i.token(kid))
	}
	i.set(200, "", "a", "b", "c")
	release := i.holds()
	defer release()
	var wg sync.WaitGroup
	for k := range 40 {
		wg.Go(func() { wantCode(t, g, tokens[k%4], map[int]Code{3: BadSignature}[k%4]) })
	}
	embedded.Eventually(t, "it asks", 10*time.Second, func() bool { return i.asked.Load() > 0 })
	release()
	wg.Wait()
	for range 40 {
		wantCode(t, g, tokens[3], BadSignature)
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
	i.set(200, "", "a", "d")
	g.jwks.pause = 0
	wantCode(t, g, tokens[3], "")
	wantCode(t, g, tokens[0], "")
	if n := i.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// Run fetches at once, tries again soon when that fails, and then by the clock;
// it ends with its context, also in the middle of a request.
func TestKeysRun(t *testing.T) {
	i := newIssuer(t)
	a := i.token("a")
	i.set(503, "")
	g := i.guard(quiet, time.Hour)
	g.jwks.every = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	await := func(what string, ok func() bool) {
		t.Helper()
		embedded.Eventually(t, what, 10*time.Second, ok)
	}
	await("it tries again", func() bool { return i.asked.Load() >= 3 })
	i.set(200, "", "a")
	await("it is ready", func() bool { return g.Ready() == nil })
	wantCode(t, g, a, "")
	i.set(200, "")
	await("the key is gone", func() bool { _, err := g.verify.verify(a); return err != nil })
	before, release := i.asked.Load(), i.holds()
	defer release()
	await("it asks again", func() bool { return i.asked.Load() > before })
	cancel()
	select {
	case <-done:
	case <-time.After(askTime / 2):
		t.Fatal("it does not end")
	}
	if err := g.jwks.refresh(0); err == nil {
		t.Error("it asks after the end")
	}
}
