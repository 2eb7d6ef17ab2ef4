package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Clients of others get every message once and in order, whatever their kind: from an
// id of before, over connections that are cut in the middle of traffic, and when their
// node is drained and they come back on the other one.
func TestOtherClients(t *testing.T) {
	o := newOthers(t, 2)
	o.keep("o:1")
	stop := o.payloads(numbered, "o:1")
	from, first := o.position("o:1")
	o.begin(t, "channel=o:1", from)
	o.settle()
	for round := 0; ; round++ {
		var moved []*other
		for _, c := range o.all {
			if round < 2 || c.at() != "n1" {
				moved = append(moved, c)
			}
		}
		if len(moved) == 0 {
			break
		}
		if round == 30 {
			t.Fatal("clients do not come to the node that is to be drained")
		}
		for _, c := range moved {
			c.cut()
		}
		o.settle()
	}
	for _, c := range o.all {
		c.leaves()
	}
	o.nodes[0].stop()
	o.settle()
	for _, c := range o.all {
		if at := c.at(); at != "n2" {
			t.Errorf("%s is at %s", c.kind.name, at)
		}
		c.cut()
	}
	o.settle()
	n := stop()
	for _, c := range o.all {
		c.mustHave(first, n)
		if ids := o.ids(c.kind.name); len(ids) < 4 || slices.Contains(ids[1:], "") {
			t.Errorf("%s came with %q", c.kind.name, ids)
		}
	}
	if n := o.nodes[1].metric("sluice_ssenode_gaps_total"); n != 0 {
		t.Errorf("%v gaps", n)
	}
}

// Who comes with an id that is none of the stream's hears of a gap, and then goes on.
func TestOtherClientsGap(t *testing.T) {
	o := newOthers(t, 1)
	o.keep("o:1")
	o.begin(t, "channel=o:1", "another-1")
	for _, c := range o.all {
		var gaps []string
		c.until("is told", func() bool {
			gaps = append(gaps, c.toldGaps()...)
			return len(gaps) > 0
		})
		if !strings.Contains(gaps[0], `"reason":"stream-recreated"`) || len(gaps) != 1 {
			t.Errorf("%s: %q", c.kind.name, gaps)
		}
	}
	stop := o.payloads(numbered, "o:1")
	o.settle()
	n := stop()
	for _, c := range o.all {
		c.mustHave(0, n)
	}
}

// A node that is full sends clients away, again and again. They come back each time,
// and once there is room they get what they missed.
func TestOtherClientsSentAway(t *testing.T) {
	o := newOthers(t, 1, "SSENODE_AWAY_RETRY=200ms", "SSENODE_MAX_CONNECTIONS=6")
	o.keep("o:1")
	stop := o.payloads(numbered, "o:1")
	from, first := o.position("o:1")
	o.begin(t, "channel=o:1", from)
	o.settle()
	for _, c := range o.all {
		c.leaves()
		c.hop.Shut()
	}
	node := o.nodes[0]
	eventually(t, "they are gone", func() bool { return node.metric("sluice_ssenode_limited_connections") == 1 })
	var crowd []interface{ Close() }
	for range o.all {
		crowd = append(crowd, o.open(0, "/events?clientId=crowd&channel=other"))
	}
	came := map[string]int{}
	for _, c := range o.all {
		came[c.kind.name] = len(o.ids(c.kind.name))
		c.hop.Reopen()
	}
	for _, c := range o.all {
		c.until("is sent away three times", func() bool { return len(o.ids(c.kind.name)) > came[c.kind.name]+3 })
		// Without retry: an EventSource waits for three seconds each time.
		c.until("comes back when it is told to", func() bool { return o.soonest(c.kind.name, came[c.kind.name]) < 3*time.Second })
	}
	if n := node.metric(`sluice_ssenode_limited_total{reason="node"}`); n < 15 {
		t.Errorf("sent away %v times", n)
	}
	for _, st := range crowd {
		st.Close()
	}
	o.settle()
	n := stop()
	for _, c := range o.all {
		c.mustHave(first, n)
	}
}

// Who may not come back is told by an answer that is final, and comes no more: 401 when
// its token has ended, 204 when it was revoked, if it says that it is an EventSource.
func TestOtherClientsRefused(t *testing.T) {
	o := newOthers(t, 1, appSignedIn, "SSENODE_JWT_LEEWAY=0s")
	f := func(lasts time.Duration, end func(clientID string), code string) {
		t.Helper()
		begun := len(o.all)
		kinds := slices.Clone(o.kinds)
		for i := range kinds {
			k := &kinds[i]
			k.name += "-" + code
			k.query += "&token=" + token(t, k.name, "channels", []string{"o:>"}, "iat", jwt.NewNumericDate(time.Now()), "exp", jwt.NewNumericDate(time.Now().Add(lasts)))
		}
		o.beginKinds(t, kinds, "channel=o:1", "")
		for _, c := range o.all[begun:] {
			c.until("is there", func() bool { return c.at() != "" })
		}
		for _, c := range o.all[begun:] {
			end(c.kind.name)
		}
		for _, c := range o.all[begun:] {
			select {
			case <-c.done:
			case <-time.After(wait):
				t.Fatalf("%s is not told that it is over", c.kind.name)
			}
			why := code
			if strings.HasPrefix(c.kind.name, "curl") {
				why = "401" // it does not ask for a stream
			}
			if c.visits != 1 || c.why == nil || !strings.Contains(c.why.Error(), why) {
				t.Errorf("%s: %d visits, ended with %v, want %s", c.kind.name, c.visits, c.why, why)
			}
			if ids := o.ids(c.kind.name); len(ids) != 2 {
				t.Errorf("%s came %d times", c.kind.name, len(ids))
			}
		}
	}
	f(10*time.Second, func(string) {}, "401") // all have come by then
	f(time.Hour, func(name string) {
		runPublisher(t, o.site, "", "revoke", "-sub", name, "-for", "1h")
	}, "204")
}
