package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"sluice/shared/sseclient"
)

// The generic hub: any channels, named events with ids, missed ones again; channels
// that a live connection takes and gives up, asked for at any node; events posted to
// the host of the stream.
func TestAppHub(t *testing.T) {
	t.Parallel()
	a := newApps(t)
	_, addr := a.poster()
	host := frontOf(t, a.addrs(), addr)

	both := a.safe(0, "/events?clientId=c1&channels=items:demo,items:demo-2")
	path := a.safe(1, "/events/items:demo?clientId=c2")
	other := a.safe(1, "/events?clientId=c3&channel="+url.QueryEscape("other, place"))
	stop := a.play(2, 400, "items")
	for range 4 {
		both.reads(40)
		both.comesBack()
	}
	stop()
	both.gets(a.rec.each("items:demo", "items:demo-2")...)
	path.gets(a.rec.of("items:demo"))
	names := map[string]bool{}
	for _, ev := range both.got {
		names[ev.name] = true
	}
	if len(names) != 3 || !names["item-added"] || !names["item-changed"] || !names["item-removed"] {
		t.Errorf("names %v", names)
	}
	a.publish("items:demo", `{"event":"item-changed","data":{"itemId":"x"}}`)
	if ev := want(t, both.Stream, "item-changed", `{"itemId":"x"}`); ev.ID == "" || ev.ID != want(t, path.Stream, "item-changed", `{"itemId":"x"}`).ID {
		t.Errorf("id %q", ev.ID)
	}

	// A channel more and a channel less, asked for at the node that has no such client.
	change := func(what, client, channel string) string {
		t.Helper()
		node := 0
		if client == "c1" {
			node = 1 - both.node
		}
		return postTo(t, a.url(node)+"/"+what, fmt.Sprintf(`{"clientId":%q,"channel":%q}`, client, channel))
	}
	told := func(e *eventSource, what, client, channel string) {
		t.Helper()
		ev := next(t, e.Stream)
		var data struct{ ClientID, Channel, Timestamp string }
		if err := json.Unmarshal([]byte(ev.Data), &data); err != nil || ev.Name != what || data.ClientID != client || data.Channel != channel || data.Timestamp == "" {
			t.Fatalf("%+v, want %s to %s", ev, what, channel)
		}
	}
	const changed = `200 {"success":true,"connections":1` // on a busy machine also: that not all nodes have answered in time
	if got := change("subscribe", "c1", "added"); !strings.HasPrefix(got, changed) {
		t.Error(got)
	}
	told(both, "subscribed", "c1", "added")
	a.publish("added", `{"event":"e","data":1}`)
	want(t, both.Stream, "e", "1")
	if got := change("unsubscribe", "c1", "items:demo"); !strings.HasPrefix(got, changed) {
		t.Error(got)
	}
	told(both, "unsubscribed", "c1", "items:demo")
	a.publish("items:demo", `{"event":"e","data":2}`)
	want(t, path.Stream, "e", "2")
	a.publish("added", `{"event":"e","data":3}`)
	want(t, both.Stream, "e", "3")
	until(t, "nobody is found", func() bool { return strings.HasPrefix(change("subscribe", "nobody", "added"), "404 ") })

	// Posted to the host that the page streams from.
	post := func(path, body string, recipients int) (counted bool) {
		t.Helper()
		const good = `200 {"success":true,"recipients":%v}`
		got := postTo(t, host+path, body, "Origin: "+host)
		if counted = got == fmt.Sprintf(good, recipients); !counted && got != fmt.Sprintf(good, "null") { // not counted in time
			t.Errorf("POST %s: %s, want %d", path, got, recipients)
		}
		return counted
	}
	post("/notify", `{"channel":"added","event":"news","data":{"n":1}}`, 1)
	want(t, both.Stream, "news", `{"n":1}`)
	post("/notify", `{"channel":"other, place","event":"news","data":"text"}`, 1)
	want(t, other.Stream, "news", `"text"`)
	everybody := []*eventSource{a.safe(0, "/events?channel=sse:broadcast"), a.safe(1, "/events?channel=sse:broadcast"), a.safe(1, "/events?pattern=sse:*")}
	post("/broadcast", `{"event":"announcement","data":[1,2]}`, len(everybody))
	for _, e := range everybody {
		want(t, e.Stream, "announcement", `[1,2]`)
	}
	until(t, "they are counted", func() bool {
		return post("/notify", `{"channel":"nobody","event":"e","data":1}`, 0) && post("/broadcast", `{"event":"e","data":1}`, len(everybody))
	})

	// A connection that comes back has the channels of its address.
	both.comesBack()
	a.publish("added", `{"event":"e","data":"of the connection before"}`)
	a.publish("items:demo", `{"event":"e","data":"back"}`)
	for ev := (sseclient.Event{}); ev.Data != `"back"`; {
		if ev = next(t, both.Stream); strings.Contains(ev.Data, "before") {
			t.Errorf("got %+v", ev)
		}
	}
}
