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
	"sync/atomic"
	"testing"
	"time"
)

// RedisTLS is a Redis that also speaks TLS, on a port of its own.
type RedisTLS struct {
	*Process
	Authority *Authority
	CAFile    string // a PEM file with the certificate to trust, for SSL_CERT_FILE
	tlsPort   int
}

// TestRedisTLS starts one for the test, with a certificate for localhost and
// 127.0.0.1 from an authority that nobody knows. Clients need none, unless args say
// otherwise ("--tls-auth-clients", "yes"). Like NeedProgram it skips the test where
// there is no redis-server.
func TestRedisTLS(tb testing.TB, args ...string) *RedisTLS {
	tb.Helper()
	NeedProgram(tb, "redis-server")
	dir := tb.TempDir()
	a := TestAuthority(tb)
	cert, key := a.Issue(tb, "localhost")
	r := &RedisTLS{Authority: a, CAFile: a.File}
	p, err := startRedis(tb.Context(), withSecondPort(tb, func(port, second int) []string {
		r.tlsPort = second
		return append(append(redisArgs(port, dir), "--tls-port", strconv.Itoa(second), "--tls-auth-clients", "no",
			"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", r.CAFile), args...)
	}))
	r.Process = ended(tb, p, err)
	return r
}

// TLSAddr is where it speaks TLS.
func (r *RedisTLS) TLSAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.tlsPort)) }

// Authority signs certificates for a test; nobody but the test knows it.
type Authority struct {
	File   string         // PEM, its certificate
	Pool   *x509.CertPool // with it alone
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued atomic.Int64
}

// TestAuthority makes one.
func TestAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{dir: tb.TempDir(), Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	must(tb, err)
	a.cert, err = x509.ParseCertificate(der)
	must(tb, err)
	a.Pool.AddCert(a.cert)
	a.File = a.write(tb, "ca.pem", "CERTIFICATE", der)
	return a
}

// Issue writes a certificate for a server or a client of this name, which is also
// good for localhost and 127.0.0.1, and its key. Each has files of its own.
func (a *Authority) Issue(tb testing.TB, name string) (certFile, keyFile string) {
	tb.Helper()
	serial := a.issued.Add(1) + 1
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		DNSNames: []string{name, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(tb, err)
	certFile = a.write(tb, strconv.FormatInt(serial, 10)+".pem", "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(key)
	must(tb, err)
	return certFile, a.write(tb, strconv.FormatInt(serial, 10)+"-key.pem", "EC PRIVATE KEY", der)
}

func (a *Authority) write(tb testing.TB, name, kind string, der []byte) string {
	tb.Helper()
	file := filepath.Join(a.dir, name)
	must(tb, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}
