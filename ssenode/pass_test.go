package ssenode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"

	"sluice/shared/embedded"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
)

// A client is told that its token ends, and when it has, the stream is closed and
// a poll answered. Others stay.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine = engine
			c.SSENode.JWT.Secret, c.SSENode.JWT.Leeway = auth.NewSecret(testSecret), 0
		})
		exp := in(4 * time.Second)
		long := open(t, n, "/events?channel=x"+query(hs(t)))
		forever := open(t, n, "/events?channel=x"+query(hs(t, "exp", nil)))
		ends := open(t, n, "/events?channel=x"+query(hs(t, "exp", exp)))
		// One that leaves before is not waited for.
		open(t, n, "/events?channel=x"+query(hs(t, "exp", exp))).Close()
		settle(t, n)
		u.publish("x", "before")
		at := want(t, ends, "", "before").ID
		polled := make(chan asked, 1)
		go func() {
			defer close(polled) // also when ask gives up
			polled <- ask(t, n, "/poll?channel=x&timeout=50&lastEventId="+at, bearer(hs(t, "exp", exp)))
		}()
		ev := next(t, ends)
		var told expiringEvent
		if err := json.Unmarshal([]byte(ev.Data), &told); err != nil || ev.Name != "token-expiring" || told.ExpiresAt != time.Unix(exp, 0).UTC().Format(time.RFC3339) {
			t.Errorf("got %+v, want token-expiring at %d", ev, exp)
		}
		if left := time.Until(time.Unix(exp, 0)); left < 200*time.Millisecond || left > 2100*time.Millisecond {
			t.Errorf("told %s before", left)
		}
		if ev, err := ends.NextData(wait); err == nil {
			t.Errorf("after that: %+v", ev)
		}
		if late := time.Since(time.Unix(exp, 0)); late < 0 || late > 3*time.Second {
			t.Errorf("closed %s after the end", late)
		}
		if a := <-polled; a.status != 200 || !strings.Contains(a.body, `"events":[]`) || time.Now().Unix() < exp {
			t.Errorf("poll: %+v", a)
		}
		until(t, "two are closed", func() bool { return n.stats.open() == 2 })
		if got := n.stats.closes[tokenExpired].Load(); got != 1 {
			t.Errorf("closed as token-expired: %d, want 1", got)
		}
		u.publish("x", "after")
		want(t, long, "", "before")
		want(t, long, "", "after")
		want(t, forever, "", "before")
		want(t, forever, "", "after")
		if a := ask(t, n, "/events?channel=x", bearer(hs(t, "exp", exp))); a.status != 401 || !strings.Contains(a.body, code(auth.Expired)) {
			t.Errorf("back with it: %d %s", a.status, a.body)
		}
	})
}

// Passes are due in their order, whoever comes and goes.
func TestPasses(t *testing.T) {
	l := &loop{}
	var all []*session
	for i := range 200 {
		s := &session{pass: &pass{due: int64(i * 7919 % 1000)}}
		switch i % 10 {
		case 0:
			s.pass = nil
		case 1:
			s.pass.due, s.pass.until = endless, endless
		}
		l.passes.add(s)
		all = append(all, s)
	}
	for i, s := range all {
		if i%3 == 0 {
			l.passes.remove(s)
		}
	}
	for i, s := range all {
		if i%5 == 1 && i%3 != 0 && s.pass != nil {
			newer := pass{due: int64(i * 6007 % 1000)}
			if i%2 == 0 {
				newer = pass{due: endless, until: endless}
			}
			l.passes.renew(s, newer)
		}
	}
	ending := 0
	for i, s := range all {
		if i%3 != 0 && s.pass.ends() {
			ending++
		}
	}
	if len(l.passes) != ending {
		t.Errorf("%d have a pass that ends, want %d", len(l.passes), ending)
	}
	for i, s := range l.passes {
		if int(s.pass.at) != i {
			t.Fatalf("the one at %d thinks it is at %d", i, s.pass.at)
		}
	}
	last := int64(-1)
	for n := len(l.passes); n > 0; n-- {
		s := l.passes[0]
		if s.pass.due < last {
			t.Fatalf("%d after %d", s.pass.due, last)
		}
		last = s.pass.due
		l.passes.remove(s)
		if len(l.passes) != n-1 {
			t.Fatalf("%d are left, want %d", len(l.passes), n-1)
		}
	}
}

// A million idle clients pay for every byte here. 128 is what the allocator
// gives; one more costs 16.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 128 {
		t.Errorf("a session has %d bytes, want at most 128", size)
	}
	if size := unsafe.Sizeof(pass{}); size > 64 {
		t.Errorf("a pass has %d bytes, want at most 64", size)
	}
}

// Neither the secret nor a token is logged, at any level, or in a metric, or in
// an error of a setting, whatever is wrong with the request.
func TestNothingIsTold(t *testing.T) {
	t.Parallel()
	var log embedded.Lines
	u := newUpstream(t)
	n := guarded(t, u, func(s *Settings) { s.HeadTimeout = time.Second })
	cfg := n.cfg // the same again, with a log of its own
	logger := log.Logger(slog.LevelDebug)
	n = runNode(t, cfg, logger)
	until(t, "it knows what is revoked", n.revoker.ready.Load)
	logger.Info("settings", "config", cfg, "node", fmt.Sprintf("%+v %#v", cfg, cfg))
	good := hs(t)
	s := open(t, n, "/events?channel=x"+query(good))
	s.Close()
	for _, request := range []string{
		"GET /events?channel=x&token=" + good + " HTTP/1.1\r\nHost: x\r\nBroken\r\n\r\n",
		"GET /events?channel=x&token=" + good + "\r\n\r\n",
		"GET  /events?token=" + good + " HTTP/9\r\n\r\n",
		"GET /events?token=%zz" + good + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + good, // never ends
		"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat(good, 100) + "\r\n\r\n",
		"GET /nothing?token=" + good + " HTTP/1.1\r\nHost: x\r\nCookie: sluice_token=" + good + "\r\nConnection: close\r\n\r\n",
		"GET /events?channel=x&initial=-1&token=" + good + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	} {
		if answer := raw(t, n, request); strings.Contains(answer, good[:30]) {
			t.Errorf("the answer has the token: %s", clip(answer))
		}
	}
	c, err := net.Dial("tcp", n.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /metrics HTTP/1.0\r\n\r\n")
	metrics, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the stream is closed", func() bool { return n.stats.open() == 0 })
	for _, secret := range []string{testSecret, good, good[:30], strings.Split(good, ".")[1][:30]} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q: %s", secret, log.String())
		}
		if strings.Contains(string(metrics), secret) {
			t.Errorf("the metrics have %q", secret)
		}
	}
	if !strings.Contains(log.String(), "stream closed") || !strings.Contains(log.String(), "http") {
		t.Errorf("the log is not at debug: %s", log.String())
	}
}

// Settings that cannot work together say so, and no secret.
func TestAccessSettings(t *testing.T) {
	f := func(text string, change func(*Settings)) {
		t.Helper()
		cfg := worker.Default[Config]()
		cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		cfg.NATS.URL = "nats://127.0.0.1:1"
		change(&cfg.SSENode)
		n, err := New(cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			n.nc.Close()
			n.gate.Close()
			n.admin.Close()
		}
		if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	decode := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f("SSENODE_JWT_SECRET and SSENODE_JWKS_URL are set: want one", func(s *Settings) {
		s.JWT.Secret, s.JWKS.URL = auth.NewSecret(testSecret), "https://x"
	})
	f("SSENODE_JWT_PUBLIC_KEY", func(s *Settings) { s.JWT.PublicKey = "/does/not/exist" })
	f("SSENODE_JWT_PUBLIC_KEY", func(s *Settings) { s.JWT.PublicKey = "pass_test.go" })
	f("SSENODE_JWKS_URL is no address", func(s *Settings) { s.JWKS.URL = "ftp://user:" + testSecret + "@x" })
	f("SSENODE_JWKS_REFRESH", func(s *Settings) { s.JWKS.Refresh = 0 })
	f("SSENODE_JWT_LEEWAY", func(s *Settings) { s.JWT.Leeway = -1 })
	f("SSENODE_COOKIE", func(s *Settings) { s.Cookie = "a b" })
	f("SSENODE_CREDENTIALS", func(s *Settings) { s.Credentials = true })
	f("SSENODE_PUBLIC_CHANNELS", func(s *Settings) { decode(s.PublicChannels.Decode("a")) })
	f("SSENODE_USER_CHANNELS", func(s *Settings) { decode(s.UserChannels.Decode("user:{claim.sub}")) })
	f("SSENODE_JWT_ISSUER", func(s *Settings) { s.JWT.Issuer = "x" })

	var b bytes.Buffer
	t.Setenv("SSENODE_JWT_SECRET", testSecret)
	worker.Usage[Config](&b)
	if cfg, err := worker.Load[Config](); err != nil || cfg.SSENode.JWT.Secret.Reveal() != testSecret {
		t.Errorf("loaded: %v", err)
	}
	if strings.Contains(b.String(), testSecret) || !strings.Contains(b.String(), "SSENODE_JWT_SECRET") {
		t.Errorf("-h prints %s", b.String())
	}
}
