package redisconn

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/certs"
	"sluice/shared/embedded"
)

// trustedURL is where TestTLS, run by itself, finds its server: Go reads
// SSL_CERT_FILE only once, so trust needs a process of its own.
const trustedURL = "SLUICE_TEST_TRUSTED_URL"

func TestTLS(t *testing.T) {
	if url := os.Getenv(trustedURL); url != "" {
		find(t, openHome(t, url))
		return
	}
	r := embedded.TestRedisTLS(t)
	url := "rediss://" + r.TLSAddr()
	_, err := openHome(t, url).Find(t.Context())
	mentions(t, err, "certificate")

	s := find(t, openHome(t, url+"?skip_verify=true"))
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	publish(t, open(t, url+"?skip_verify=true"), "a", "1")
	receive(t, ps, "a 1")

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTLS$")
	child.Env = append(os.Environ(), trustedURL+"="+url, "SSL_CERT_FILE="+r.CAFile)
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("with SSL_CERT_FILE: %v\n%s", err, out)
	}
}

// REDIS_CA is who is believed, REDIS_CERT is shown to a server that wants it, as they
// are at the time of a connection.
func TestTLSFiles(t *testing.T) {
	t.Parallel()
	r := embedded.TestRedisTLS(t, "--tls-auth-clients", "yes")
	stranger := embedded.TestAuthority(t)
	cert, key := r.Authority.Issue(t, "bridge")
	strangeCert, strangeKey := stranger.Issue(t, "bridge")
	url := "rediss://" + r.TLSAddr()
	ping := func(files certs.Client) error {
		t.Helper()
		c, err := Open(url, Options{Worker: "test", TLS: files})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return c.Ping(ctx).Err()
	}
	good := certs.Client{CA: r.CAFile, Cert: cert, Key: key}
	if err := ping(good); err != nil {
		t.Error(err)
	}
	mentions(t, ping(certs.Client{}), "certificate")
	mentions(t, ping(certs.Client{CA: stranger.File, Cert: cert, Key: key}), "unknown authority")
	for _, files := range []certs.Client{{CA: r.CAFile}, {CA: r.CAFile, Cert: strangeCert, Key: strangeKey}} {
		if err := ping(files); err == nil {
			t.Errorf("connected with %+v", files)
		}
	}

	h, err := OpenHome(url, Options{Worker: "test", TLS: certs.Client{CA: r.CAFile, Cert: strangeCert, Key: strangeKey}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if s, err := h.Find(t.Context()); err == nil {
		s.Close()
		t.Error("a strange certificate is good")
	}
	for from, to := range map[string]string{cert: strangeCert, key: strangeKey} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := find(t, h)
	ps := subscribed(t, s, 1, func(ps *redis.PubSub) error { return ps.PSubscribe(t.Context(), "*") })
	publish(t, s.Client, "a", "1")
	receive(t, ps, "a 1")
}

func TestTLSSettings(t *testing.T) {
	a := embedded.TestAuthority(t)
	f := func(url string, files certs.Client, words ...string) {
		t.Helper()
		for _, open := range []func() error{
			func() error { _, err := Open(url, Options{TLS: files}); return err },
			func() error { _, err := OpenHome(url, Options{TLS: files, Channel: "c"}); return err },
		} {
			err := open()
			for _, word := range words {
				mentions(t, err, word)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v tells the password", err)
			}
		}
	}
	ca := certs.Client{CA: a.File}
	f("redis://u:s3cret@h", ca, "REDIS_URL=", "REDIS_CA", "rediss://")
	f("redis+cluster://u:s3cret@h", ca, "REDIS_URL=", "REDIS_CA", "rediss+cluster://")
	f("rediss://u:s3cret@h?skip_verify=true", ca, "REDIS_CA", "skip_verify")
	f("rediss://u:s3cret@h", certs.Client{CA: "/nowhere"}, `REDIS_CA="/nowhere"`)
	f("rediss://u:s3cret@h", certs.Client{Cert: a.File}, "REDIS_CERT=", "REDIS_KEY=")
}

// The handshake, too, obeys the context.
func TestTLSObeysItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	c, err := open(t, "rediss://"+l.Addr().String()).Options().Dialer(ctx, "tcp", l.Addr().String())
	if err == nil {
		c.Close()
		t.Error("connected")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
