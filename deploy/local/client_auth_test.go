package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/embedded"
)

// issuer signs tokens, and tells its key once it is up.
type issuer struct {
	*httptest.Server
	t   *testing.T
	key ed25519.PrivateKey
	up  atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	is := &issuer{t: t, key: private}
	is.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !is.up.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(is.Close)
	return is
}

// token is one of anna's, who may read ok:>.
func (is *issuer) token(life time.Duration) string {
	is.t.Helper()
	claims := jwt.MapClaims{"sub": "anna", "channels": []string{"ok:>"}, "exp": jwt.NewNumericDate(time.Now().Add(life)), "jti": fmt.Sprint(time.Now().UnixNano())}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(is.key)
	if err != nil {
		is.t.Fatal(err)
	}
	return token
}

// While a node sends it away the client comes back more and more seldom, and only
// being connected resets that. A token that was refused, or ends, is replaced;
// a channel that may not be read does not take the others away.
func TestClientTokens(t *testing.T) {
	is := newIssuer(t)
	p := newPages(t, 0)
	node := start(t, "ssenode", "NATS_URL="+p.nats.URL(), "SSENODE_ADDR=127.0.0.1:0", "SSENODE_JWKS_URL="+is.URL, "SSENODE_JWT_LEEWAY=0s", "SSENODE_RETRY=100ms")
	hop := embedded.TestProxy(t, node.says(`msg="node serves" addr=(\S+)`))
	server := "http://" + hop.Addr()
	// The page gets its tokens here.
	var asked atomic.Int64
	var life atomic.Int64
	p.mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
		text := is.token(time.Duration(life.Load()))
		asked.Add(1)
		fmt.Fprint(w, text)
	})
	life.Store(int64(time.Hour))
	const ask = `{token: async () => (await fetch("/token")).text(), onError: e => errors.push(e.message)}`
	b := p.tab(t)
	b.begin(server, ask, "ok:1")
	delays := func() (ms []float64) {
		b.run(`states.map(s => s.retryIn).filter(ms => ms)`, &ms)
		return ms
	}
	eventually(t, "four attempts", func() bool { return len(delays()) >= 4 })
	for i, ms := range delays()[:4] {
		// 100 ms give or take a quarter by the node, doubled each time, give or take a half.
		if low, high := 75*0.5*float64(int(1)<<i), 125*1.5*float64(int(1)<<i)+1; ms < low || ms > high {
			t.Errorf("delay %d is %v ms, want %v to %v", i+1, ms, low, high)
		}
	}
	is.up.Store(true)
	until(t, "the node has the key", node.ready)
	b.run(`dispatchEvent(new Event("online"))`, nil) // it waits no longer then
	b.positioned()
	if n := asked.Load(); n != 1 {
		t.Errorf("%d tokens for one connection", n)
	}
	b.run(`states.length = 0`, nil)
	hop.Cut()
	b.until(`states.some(s => s.retryIn)`)
	if ms := delays()[0]; ms > 125*1.5+1 {
		t.Errorf("after it was connected the first delay is %v ms", ms)
	}
	b.positioned()
	// Live, and by the address.
	live := node.metric("sluice_ssenode_connects_total")
	b.run(`sluice.subscribe("no:1", note)`, nil)
	b.until(`errors.some(e => e.includes("no:1"))`)
	b.open()
	p.publish("ok:1", "1")
	b.until(`got.length === 1`)
	if n := node.metric("sluice_ssenode_connects_total"); n != live {
		t.Errorf("a channel that was refused has cost %v connections", n-live)
	}
	b.run(`sluice.close()`, nil)
	d := p.tab(t)
	d.begin(server, ask, "no:2", "ok:2")
	d.until(`errors.some(e => e.includes("no:2"))`)
	d.positioned()
	d.close()

	// One that ends soon is replaced before, and nothing is lost meanwhile.
	asked.Store(0)
	const short = 6 * time.Second
	life.Store(int64(short))
	c := p.tab(t)
	c.begin(server, ask, "ok:3")
	eventually(t, "a token", func() bool { return asked.Load() > 0 })
	ends := time.Now().Add(short) // or before
	life.Store(int64(time.Hour))  // of the next one, also if the rest takes long
	c.positioned()
	stop := p.numbers("ok:3")
	c.until(settled)
	eventually(t, "another token", func() bool { return asked.Load() > 1 })
	connects := node.metric("sluice_ssenode_connects_total")
	c.until(`got.length > 400`)
	eventually(t, "the stream lives by the new token", func() bool { return node.metric("sluice_ssenode_refreshed_total") == 1 })
	eventually(t, "the old token has ended", func() bool { return time.Now().After(ends) })
	var have int
	c.run(`got.length`, &have)
	c.until(fmt.Sprintf(`got.length > %d`, have))
	c.sequence("ok:3", stop())
	if n := node.metric("sluice_ssenode_connects_total"); n != connects || node.metric(`sluice_ssenode_closes_total{reason="token-expired"}`) != 0 {
		t.Errorf("%v connections more, or closed", n-connects)
	}
	c.run(`sluice.close()`, nil)

	// Refused ones: another is asked for, but not for ever.
	life.Store(int64(-time.Hour))
	asked.Store(0)
	e := p.tab(t)
	e.begin(server, ask, "ok:4")
	eventually(t, "two tokens", func() bool { return asked.Load() >= 2 })
	life.Store(int64(time.Hour))
	e.until(`["open", "closed"].includes(sluice.status.state)`)
	e.run(`sluice.close()`, nil)
	f := p.tab(t)
	f.begin(server, fmt.Sprintf(`{token: %q}`, is.token(-time.Hour)), "ok:5")
	f.until(`sluice.status.state === "closed"`)
	var why string
	if f.run(`sluice.status.error.message`, &why); !slices.Contains([]string{"401 Unauthorized expired"}, why) {
		t.Errorf("closed by %q", why)
	}
}
