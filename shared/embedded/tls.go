package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// RedisTLS is a Redis that also speaks TLS, on a port of its own.
type RedisTLS struct {
	*Process
	CAFile  string // a PEM file with the certificate to trust, for SSL_CERT_FILE
	tlsPort int
}

// TestRedisTLS starts one for the test, with a certificate for localhost and
// 127.0.0.1 from an authority that nobody knows. Clients need none. Like
// NeedProgram it skips the test where there is no redis-server.
func TestRedisTLS(tb testing.TB, args ...string) *RedisTLS {
	tb.Helper()
	NeedProgram(tb, "redis-server")
	dir := tb.TempDir()
	r := &RedisTLS{CAFile: testCertificate(tb, dir)}
	p, err := startRedis(tb.Context(), withSecondPort(func(port, second int) []string {
		r.tlsPort = second
		return append(append(redisArgs(port, dir), "--tls-port", strconv.Itoa(second), "--tls-auth-clients", "no",
			"--tls-cert-file", filepath.Join(dir, "server.pem"), "--tls-key-file", filepath.Join(dir, "server-key.pem"),
			"--tls-ca-cert-file", r.CAFile), args...)
	}))
	r.Process = ended(tb, p, err)
	return r
}

// TLSAddr is where it speaks TLS.
func (r *RedisTLS) TLSAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.tlsPort)) }

// testCertificate writes server.pem and server-key.pem into dir, and the
// authority's certificate, whose path it returns.
func testCertificate(tb testing.TB, dir string) (caFile string) {
	tb.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	write := func(name, kind string, der []byte, err error) string {
		must(tb, err)
		file := filepath.Join(dir, name)
		must(tb, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	der, err := x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	write("server.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalECPrivateKey(key)
	write("server-key.pem", "EC PRIVATE KEY", der, err)
	der, err = x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	return write("ca.pem", "CERTIFICATE", der, err)
}
