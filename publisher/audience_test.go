package publisher

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// counted counts from a list, and keeps what it was asked.
type counted struct {
	counts map[string]int
	mu     sync.Mutex // guards asked
	asked  [][]target
	limits []time.Duration
}

func (a *counted) recipients(ctx context.Context, targets []target) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, targets)
	if deadline, ok := ctx.Deadline(); ok {
		a.limits = append(a.limits, time.Until(deadline))
	}
	var list []int
	for _, target := range targets {
		list = append(list, a.counts[target.channel])
	}
	return list
}

// The recipients are what the audience says, null where it does not know or is not
// asked.
func TestServeRecipients(t *testing.T) {
	who := &counted{counts: map[string]int{"a": 3, "none": 0, "lost": -1, "sse:broadcast": 1000}}
	a := serveWith(t, embedded.TestRedis(t).URL(), nil, who)
	a.ready()
	f := func(recipients, path, body string) {
		t.Helper()
		if r := a.post(path, body); r.status != 200 || r.body != recipients {
			t.Errorf("%s %s: %d %s, want %s", path, body, r.status, r.body, recipients)
		}
	}
	f(`{"success":true,"recipients":3}`, "/publish/a", "x")
	f(`{"success":true,"recipients":3}`, "/publish/a?recipients=1", "x")
	f(`{"success":true,"recipients":0}`, "/publish/none", "x")
	f(`{"success":true,"recipients":null}`, "/publish/lost", "x")
	f(`{"success":true,"recipients":1000}`, "/broadcast", `{"event":"e","data":1}`)
	f(`{"success":true,"recipients":3}`, "/notify", `{"channel":"a","event":"e","data":1,"criteria":{"role":"admin"}}`)
	f(`[{"success":true,"recipients":3},{"success":false,"error":"\"data\" is missing"},{"success":true,"recipients":null},{"success":true,"recipients":0}]`,
		"/publish", `[{"channel":"a","data":1},{"channel":"b"},{"channel":"lost","data":1},{"channel":"none","data":1}]`)
	before := len(who.asked)
	f(`{"success":true,"recipients":null}`, "/publish/a?recipients=0", "x")
	f(`[{"success":true,"recipients":null}]`, "/publish?recipients=0", `[{"channel":"a","data":1}]`)
	f(`{"success":true,"recipients":null}`, "/broadcast?recipients=0", `{"event":"e","data":1}`)
	if len(who.asked) != before {
		t.Error("asked although nobody wanted to know")
	}
	if got := who.asked[5]; len(got) != 1 || string(got[0].criteria) != `{"role":"admin"}` {
		t.Errorf("asked for %+v", got)
	}
	if got := who.asked[6]; len(got) != 3 || got[1].channel != "lost" || got[0].criteria != nil {
		t.Errorf("asked for %+v", got)
	}
	for _, limit := range who.limits {
		if limit > countLimit {
			t.Errorf("asked for %s", limit)
		}
	}
	if n := a.s.stats.unknown.Load(); n != 2 {
		t.Errorf("counted %d", n)
	}
}
