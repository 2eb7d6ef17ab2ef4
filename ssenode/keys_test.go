package ssenode

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"sluice/ssenode/auth"
)

// signer is a private key with the method that goes with it.
type signer struct {
	method jwt.SigningMethod
	key    crypto.Signer
}

func newSigners(t *testing.T) map[string]signer {
	t.Helper()
	curve := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]signer{
		"RS256": {jwt.SigningMethodRS256, rsaKey}, "RS384": {jwt.SigningMethodRS384, rsaKey}, "RS512": {jwt.SigningMethodRS512, rsaKey},
		"ES256": {jwt.SigningMethodES256, curve(elliptic.P256())}, "ES384": {jwt.SigningMethodES384, curve(elliptic.P384())},
		"ES512": {jwt.SigningMethodES512, curve(elliptic.P521())}, "EdDSA": {jwt.SigningMethodEdDSA, edKey},
	}
}

func publicPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// byFile makes the node use a public key in a file.
func byFile(t *testing.T, text []byte) func(*Settings) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(s *Settings) { s.JWT.Secret, s.JWT.PublicKey = auth.Secret{}, file }
}

// A public key takes the methods that go with it, and no other: above all it is
// no shared secret.
func TestPublicKeys(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	all := newSigners(t)
	for name, own := range all {
		text := publicPEM(t, own.key)
		n := guarded(t, u, byFile(t, text))
		for other, s := range all {
			status, want := 401, code(auth.BadSignature)
			if string(publicPEM(t, s.key)) == string(text) { // RS256, RS384 and RS512
				status, want = 200, `"x"`
			}
			a := ask(t, n, "/events?channel=x", bearer(sign(t, s.method, s.key, claims())))
			if a.status != status || !strings.Contains(a.body, want) {
				t.Errorf("key of %s, token of %s: %d %s", name, other, a.status, a.body)
			}
		}
		// The public key is known to all: as a secret it would be everybody's.
		for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text)))} {
			for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
				a := ask(t, n, "/events?channel=x", bearer(sign(t, m, secret, claims())))
				if a.status != 401 || !strings.Contains(a.body, code(auth.BadSignature)) {
					t.Errorf("key of %s as the secret of %s: %d %s", name, m.Alg(), a.status, a.body)
				}
			}
		}
		if name == "RS256" {
			// The same key, but not one of the methods of the README.
			if a := ask(t, n, "/events?channel=x", bearer(sign(t, jwt.SigningMethodPS256, own.key, claims()))); a.status != 401 {
				t.Errorf("PS256: %d %s", a.status, a.body)
			}
		}
		a := ask(t, n, "/events?channel=x", bearer(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims())))
		if a.status != 401 {
			t.Errorf("none: %d %s", a.status, a.body)
		}
	}
}

// jwk is a public key in a set.
func jwk(t *testing.T, kid string, s signer) map[string]string {
	t.Helper()
	b := base64.RawURLEncoding.EncodeToString
	m := map[string]string{"kid": kid, "use": "sig"}
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b(k.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		raw, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		size := len(raw) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Curve.Params().Name, b(raw[1:1+size]), b(raw[1+size:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b(k)
	}
	return m
}

// A node with a key set takes what its keys have signed. Until it has had the
// set, it sends clients away instead of refusing them: an EventSource would
// never come back.
func TestKeySet(t *testing.T) {
	t.Parallel()
	all := newSigners(t)
	var keys []any
	for _, name := range []string{"RS256", "ES256", "ES384", "EdDSA"} {
		keys = append(keys, jwk(t, name, all[name]))
	}
	// What is no public key for signatures does not count, nor does it break the set.
	oct := base64.RawURLEncoding.EncodeToString([]byte(testSecret))
	encrypts := jwk(t, "enc", all["ES512"])
	encrypts["use"] = "enc"
	keys = append(keys, map[string]string{"kty": "oct", "kid": "oct", "k": oct}, map[string]string{"kty": "XYZ", "kid": "odd"}, "nonsense", encrypts)
	set, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	var up atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(server.Close)
	n := startNodeUnready(t, newUpstream(t), func(c *Config) { c.SSENode.JWKS.URL = server.URL })
	token := func(name, kid string) string {
		return sign(t, all[name].method, all[name].key, claims(), "kid", kid)
	}
	until(t, "the node wants keys", func() bool {
		err := n.ready()
		return err != nil && strings.Contains(err.Error(), "SSENODE_JWKS_URL")
	})
	a := ask(t, n, "/events?channel=x", bearer(token("ES256", "ES256")))
	if a.status != 200 || !strings.HasPrefix(a.body, "retry: ") || strings.Contains(a.body, "event:") {
		t.Errorf("stream without keys: %d %q", a.status, a.body)
	}
	if a := ask(t, n, "/poll?channel=x", bearer(token("ES256", "ES256"))); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("poll without keys: %d %s", a.status, a.body)
	}
	up.Store(true)
	until(t, "the node has keys", func() bool { return n.ready() == nil })
	f := func(token string, status int, text string) {
		t.Helper()
		if a := ask(t, n, "/events?channel=x", bearer(token)); a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("got %d %s, want %d with %s", a.status, a.body, status, text)
		}
	}
	for _, name := range []string{"RS256", "ES256", "ES384", "EdDSA"} {
		f(token(name, name), 200, `"x"`)
	}
	f(sign(t, all["ES256"].method, all["ES256"].key, claims()), 200, `"x"`) // names no key: one that fits
	f(sign(t, all["RS512"].method, all["RS512"].key, claims()), 200, `"x"`)
	bad := code(auth.BadSignature)
	f(token("ES256", "ES384"), 401, bad)
	f(token("ES256", "RS256"), 401, bad)
	f(token("ES256", "unknown"), 401, bad)
	f(token("ES512", "enc"), 401, bad)
	f(sign(t, all["ES512"].method, all["ES512"].key, claims()), 401, bad)
	f(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims(), "kid", "oct"), 401, bad)
	f(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims()), 401, bad)
	f(sign(t, jwt.SigningMethodHS256, publicPEM(t, all["RS256"].key), claims(), "kid", "RS256"), 401, bad)
	f(forge(`{"alg":"ES256","kid":7}`, `{}`, "x"), 401, code(auth.Malformed))
	// A key that comes with the token is nobody's.
	own, err := json.Marshal(jwk(t, "mine", all["ES512"]))
	if err != nil {
		t.Fatal(err)
	}
	f(sign(t, all["ES512"].method, all["ES512"].key, claims(), "jwk", string(own), "jku", server.URL), 401, bad)
}
