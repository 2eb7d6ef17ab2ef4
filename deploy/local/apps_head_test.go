package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sluice/shared/sseclient"
)

// What all pages of today's apps expect of a stream, through a front as at a node: the
// head at once, though nothing is published, with these fields; a first event that
// tells the clientId; heartbeats as comments, which no page sees; errors as JSON.
func TestAppStreamHead(t *testing.T) {
	t.Parallel()
	a := newApps(t, appSignedIn, appUser, "SSENODE_PUBLIC_CHANNELS=open", "SSENODE_HEARTBEAT=1s")
	host := frontOf(t, a.addrs(), "")
	for _, where := range []string{a.url(0), a.url(1), host, host} {
		st := openURL(t, where+"/events?channel=open") // up to the connected event
		for name, value := range map[string]string{
			"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Access-Control-Allow-Origin": "*",
		} {
			if got := st.Header().Get(name); got != value {
				t.Errorf("%s: %s: %q, want %q", where, name, got, value)
			}
		}
		beat := false
		for i := 0; !beat; i++ {
			ev, err := st.NextWithin(wait)
			if err != nil || ev.HasData || i == 10 {
				t.Fatalf("no heartbeat: %+v, %v", ev, err)
			}
			beat = ev.Comment == "heartbeat"
		}
		st.Close()
		if code, body := fetch(t, where+userStream); code != http.StatusUnauthorized || !strings.HasPrefix(body, `{"error":"Unauthorized"`) {
			t.Errorf("%s: %d %s", where, code, body)
		}
	}
}

// Where EventSource cannot be used: polls, each at another node, bring everything once
// and in order.
func TestAppPolling(t *testing.T) {
	t.Parallel()
	a := newApps(t, "ROUTES=> history=5000/10m")
	type answer struct {
		Events []struct {
			ID, Channel string
			Event       *string
			Data        string
		}
		LastEventID string
		Gap         any
	}
	all := eventSource{a: a}
	took := func(ev sseclient.Event) {
		t.Helper()
		if err := all.take(ev); err != nil {
			t.Fatal(err)
		}
	}
	poll := func(node int, query string) (got answer) {
		t.Helper()
		code, body := fetch(t, a.url(node)+"/poll?channels=items:demo,items:demo-2&timeout=5"+query)
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || got.LastEventID == "" {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		return got
	}
	at := poll(0, "").LastEventID
	stop := a.play(2, 300, "items")
	take := func(node int) {
		t.Helper()
		p := poll(node, "&lastEventId="+at)
		if p.Gap != nil {
			took(sseclient.Event{Name: "gap", Data: toJSON(p.Gap)})
		}
		for _, ev := range p.Events {
			took(sseclient.Event{Name: *ev.Event, Data: ev.Data})
		}
		at = p.LastEventID
	}
	for i := 0; len(all.got) < 200 && i < 400; i++ {
		take(i % 2)
	}
	stop()
	want := a.rec.each("items:demo", "items:demo-2")
	count := len(slices.Concat(want...))
	until(t, "polls bring the rest", func() bool {
		if len(all.got) < count {
			take(1)
		}
		return len(all.got) >= count
	})
	if why := mixed(all.got, want...); why != "" {
		t.Errorf("polls: %s", why)
	}
}
