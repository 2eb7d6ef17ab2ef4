package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

func TestRedisSpeaksTLS(t *testing.T) {
	r := TestRedisTLS(t)
	if err := TestRedisClient(t, r).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		t.Fatal("the authority's file has no certificate")
	}
	c, err := tls.Dial("tcp", r.TLSAddr(), &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 7)
	if _, err := c.Read(answer); err != nil || string(answer) != "+PONG\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
	if _, err := tls.Dial("tcp", r.TLSAddr(), nil); err == nil {
		t.Error("the certificate is good without its authority")
	}
}
