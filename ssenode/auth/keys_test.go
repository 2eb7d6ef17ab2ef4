package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func ecKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A key fits the methods of its kind alone, whatever a token says.
func TestFits(t *testing.T) {
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, small := rsaKey(t, 2048), rsaKey(t, 1024)
	keys := map[string]any{
		"secret": []byte("secret"), "text": "secret", "nil": nil, "none": jwt.UnsafeAllowNoneSignatureType,
		"rsa": &big.PublicKey, "small": &small.PublicKey, "rsa private": big, "ed": edPublic, "ed private": edPrivate, "ed short": edPublic[:5],
		"p224": &ecKey(t, elliptic.P224()).PublicKey, "p256": &ecKey(t, elliptic.P256()).PublicKey,
		"p384": &ecKey(t, elliptic.P384()).PublicKey, "p521": &ecKey(t, elliptic.P521()).PublicKey,
	}
	want := map[string]string{
		"HS256": "secret", "HS384": "secret", "HS512": "secret", "RS256": "rsa", "RS384": "rsa", "RS512": "rsa",
		"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
	}
	for _, alg := range jwt.GetAlgorithms() {
		for name, key := range keys {
			if got := fits(jwt.GetSigningMethod(alg), key); got != (want[alg] == name) {
				t.Errorf("%s with %s: %v", alg, name, got)
			}
		}
	}
	for alg := range want {
		if slices.Contains(shared, alg) == slices.Contains(publicOnes, alg) {
			t.Errorf("%s is for a secret and for public keys", alg)
		}
	}
}

func TestPublicKeyFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	f := func(kind string, der []byte, err error, methods, text string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		content := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if kind == "" {
			content = der
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, got, err := publicKey(file)
		if strings.Join(got, " ") != methods || (text == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %q, %v; want %q, %q", kind, got, err, methods, text)
		}
	}
	pkix := func(k crypto.Signer) []byte {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := rsaKey(t, 2048)
	f("PUBLIC KEY", pkix(good), nil, "RS256 RS384 RS512", "")
	f("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&good.PublicKey), nil, "RS256 RS384 RS512", "")
	f("PUBLIC KEY", pkix(ecKey(t, elliptic.P256())), nil, "ES256", "")
	f("PUBLIC KEY", pkix(ecKey(t, elliptic.P384())), nil, "ES384", "")
	f("PUBLIC KEY", pkix(ecKey(t, elliptic.P521())), nil, "ES512", "")
	f("PUBLIC KEY", pkix(ecKey(t, elliptic.P224())), nil, "", "P-224")
	f("PUBLIC KEY", pkix(rsaKey(t, 1024)), nil, "", "1024 bits")
	private := ecKey(t, elliptic.P256())
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, private.Public(), private)
	f("CERTIFICATE", der, err, "ES256", "")
	der, err = x509.MarshalPKCS8PrivateKey(private)
	f("PRIVATE KEY", der, err, "", `"PRIVATE KEY"`)
	f("PUBLIC KEY", []byte("junk"), nil, "", "asn1")
	f("", []byte("no key"), nil, "", "no PEM")
	f("", nil, nil, "", "no PEM")
	if _, _, err := publicKey(file + "x"); err == nil {
		t.Error("a file that is not there")
	}
}
