package publisher

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// What is posted to /revoke is in the bucket like what the command puts there, and
// refused in words else.
func TestServeRevokes(t *testing.T) {
	n := embedded.TestNATS(t)
	a := serve(t, embedded.TestRedis(t).URL(), func(c *ServeConfig) { c.Publisher.NATS, c.NATS.URL = true, n.URL() })
	until(t, "NATS is there", func() bool { return a.s.nodes.nc.IsConnected() })
	before := time.Now()
	r := a.post("/revoke", `{"jti":"7f3c09","for":"90m"}`)
	var answer revoked
	if err := json.Unmarshal([]byte(r.body), &answer); r.status != 200 || err != nil || !answer.Success {
		t.Fatal(r, err)
	}
	if d := answer.Until.Sub(before); d < 89*time.Minute || d > 91*time.Minute {
		t.Errorf("for %s", d)
	}
	js, err := jetstream.New(a.s.nodes.nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	kv, err := js.KeyValue(ctx, a.s.cfg.Stream.Revoked())
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(ctx, wire.Revocation{TokenID: "7f3c09"}.Key())
	if err != nil || !strings.Contains(string(e.Value()), "7f3c09") {
		t.Errorf("%v %s", err, e.Value())
	}
	for body, want := range map[string]string{
		`{"for":"1h"}`:                     "want sub or jti, one of them",
		`{"sub":"a","jti":"b","for":"1h"}`: "want sub or jti, one of them",
		`{"sub":"a"}`:                      `\"for\": want how long`,
		`{"sub":"a","for":"0s"}`:           "for 0s: want",
		`{"sub":"a","for":3600}`:           `\"for\": want a string`,
		`{"subject":"a","for":"1h"}`:       `unknown field \"subject\"`,
		`{"sub":"` + strings.Repeat("x", 4097) + `","for":"1h"}`: "4097 bytes",
	} {
		if r := a.post("/revoke", body); r.status != 400 || !strings.Contains(r.body, want) {
			t.Errorf("%.100s: %d %s, want %s", body, r.status, r.body, want)
		}
	}
	connected := func(a *api) string {
		_, text := a.admin("/metrics")
		return regexp.MustCompile(`(?m)^sluice_publisher_nats_connected .*$`).FindString(text)
	}
	if got := connected(a); got != "sluice_publisher_nats_connected 1" {
		t.Errorf("%q", got)
	}
	n.Shutdown()
	until(t, "NATS is away", func() bool { return !a.s.nodes.nc.IsConnected() })
	if got := connected(a); got != "sluice_publisher_nats_connected 0" {
		t.Errorf("%q", got)
	}
	if r := a.post("/revoke", `{"sub":"a","for":"1h"}`); r.status != 503 || !strings.Contains(r.body, "NATS is away: nothing was revoked") || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", r.status, r.body)
	}
	none := serve(t, embedded.TestRedis(t).URL(), nil)
	if r := none.post("/revoke", `{"sub":"a","for":"1h"}`); r.status != 503 || !strings.Contains(r.body, "PUBLISHER_NATS=false") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if got := connected(none); got != "" {
		t.Errorf("%q", got)
	}
}
