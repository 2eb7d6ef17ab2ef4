package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/certs"
)

// leastRSA is how many bits an RSA key needs.
const leastRSA = 2048

var (
	shared      = []string{"HS256", "HS384", "HS512"}
	publicOnes  = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}
	methodsOfEC = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}
)

// fits tells whether a key is of the kind that the method works with. A token
// names its method itself: taken at its word, it could have a public key used as
// a shared secret.
func fits(method jwt.SigningMethod, key any) bool {
	switch m := method.(type) {
	case *jwt.SigningMethodHMAC:
		_, ok := key.([]byte)
		return ok
	case *jwt.SigningMethodRSA:
		k, ok := key.(*rsa.PublicKey)
		return ok && k.N.BitLen() >= leastRSA
	case *jwt.SigningMethodECDSA:
		k, ok := key.(*ecdsa.PublicKey)
		return ok && k.Curve.Params().BitSize == m.CurveBits
	case *jwt.SigningMethodEd25519:
		k, ok := key.(ed25519.PublicKey)
		return ok && len(k) == ed25519.PublicKeySize
	}
	return false
}

// publicKey reads a PEM file with a public key or a certificate, and tells which
// methods it fits.
func publicKey(file string) (crypto.PublicKey, []string, error) {
	text, err := certs.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	const want = "want one PEM block: PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE"
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, nil, fmt.Errorf("no PEM in it; %s", want)
	}
	var key crypto.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default: // a private key's content is nobody's business here
		return nil, nil, fmt.Errorf("a PEM block %q; %s", block.Type, want)
	}
	if err != nil {
		return nil, nil, err
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < leastRSA {
			return nil, nil, fmt.Errorf("an RSA key of %d bits; want at least %d", n, leastRSA)
		}
		return k, []string{"RS256", "RS384", "RS512"}, nil
	case *ecdsa.PublicKey:
		if m := methodsOfEC[k.Curve.Params().BitSize]; m != "" {
			return k, []string{m}, nil
		}
		return nil, nil, fmt.Errorf("a key on the curve %s; want P-256, P-384 or P-521", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return k, []string{"EdDSA"}, nil
	}
	return nil, nil, fmt.Errorf("a key of the kind %T; want RSA, ECDSA or Ed25519", key)
}
