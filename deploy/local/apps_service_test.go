package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// events are how many messages of channels a node has got from NATS, and given to
// clients.
func (p *proc) events() (in, out float64) {
	m := p.metrics()
	return m[`sluice_ssenode_messages_in_total{kind="event"}`], m["sluice_ssenode_events_out_total"]
}

// The Spring-style service: every client is on the broadcast channel and on its own
// without asking, the members of a group on the group's; and only the node that holds
// a client does any work for it.
func TestAppService(t *testing.T) {
	t.Parallel()
	a := newApps(t, appSignedIn, appAuto, "SSENODE_HEARTBEAT=0")
	clients := map[string]*eventSource{
		// They name no channel.
		"client1": a.safe(0, "/events?clientId=client1&token="+token(t, "client1", "groups", []string{"staff"})),
		"client2": a.safe(1, "/events?clientId=client2&token="+token(t, "client2", "groups", []string{"editors", "staff"})),
		"client3": a.safe(1, "/events?clientId=client3&token="+token(t, "client3")),
	}
	groups := map[string][]string{"client1": {"sse:group:staff"}, "client2": {"sse:group:staff", "sse:group:editors"}}
	stop := a.play(3, 300, "service")
	for range 3 {
		clients["client2"].reads(30)
		clients["client2"].comesBack()
	}
	stop()
	a.publish("sse:broadcast", "plain text")
	a.publish("sse:channel:client3", `{"json":"without a name"}`)
	a.publish("sse:group:staff", `{"event":"group-message","data":"members only"}`)
	a.publish("sse:channel:nobody", "no")
	a.publish("sse:group:guests", "no")
	a.recorded()
	for id, client := range clients {
		client.gets(a.rec.each(append(groups[id], "sse:broadcast", "sse:channel:"+id)...)...)
		names := map[string]bool{}
		for _, ev := range client.got {
			names[ev.name] = true
		}
		if !names["broadcast"] || !names["notification"] || names["group-message"] != (groups[id] != nil) {
			t.Errorf("%s: names %v", id, names)
		}
	}
	// Only the node that holds the client: client3 has not moved.
	var before [2]struct{ in, out float64 }
	eventually(t, "all that was before is counted", func() bool { // a moment after it was written
		had := before
		for i, node := range a.nodes {
			before[i].in, before[i].out = node.events()
		}
		return before == had
	})
	const n = 100
	for i := range n {
		a.publish("sse:channel:client3", fmt.Sprint(i))
	}
	for i := range n {
		want(t, clients["client3"].Stream, "", fmt.Sprint(i))
	}
	until(t, "it is counted", func() bool { in, out := a.nodes[1].events(); return in-before[1].in == n && out-before[1].out == n })
	if in, out := a.nodes[0].events(); in != before[0].in || out != before[0].out {
		t.Errorf("the other node got %v messages and wrote %v", in-before[0].in, out-before[0].out)
	}
}

// The conditional messages: only clients whose attributes match get one, and none sees
// the criteria.
func TestAppConditionalMessages(t *testing.T) {
	t.Parallel()
	a := newApps(t, appSignedIn, "SSENODE_PUBLIC_CHANNELS=notices")
	type client struct {
		*eventSource
		kinds []string
	}
	var clients []client
	for i, c := range []struct {
		claims []any
		kinds  []string
	}{
		{nil, []string{"for-all"}},
		{[]any{"role", "admin"}, []string{"for-all", "for-admins", "for-staff"}},
		{[]any{"role", "admin", "beta", true}, []string{"for-all", "for-admins", "for-staff", "for-beta-admins"}},
		{[]any{"role", []string{"guest", "editor"}}, []string{"for-all", "for-staff"}},
		{[]any{"role", "user", "beta", true}, []string{"for-all"}},
	} {
		for node := range a.nodes {
			clients = append(clients, client{a.safe(node, "/events?channel=notices&token="+token(t, fmt.Sprint("u", i), c.claims...)), c.kinds})
		}
	}
	clients = append(clients, client{a.safe(0, "/events?channel=notices"), []string{"for-all"}})
	stop := a.play(1, 300, "notices")
	for _, c := range clients {
		c.reads(10)
		c.comesBack()
		c.reads(10)
	}
	stop()
	a.publish("notices", `{"message":"plain","criteria":{}}`)
	a.recorded()
	for _, c := range clients {
		c.gets(a.rec.that(func(m redis.Message) bool {
			var p struct{ Message struct{ Type string } }
			err := json.Unmarshal([]byte(m.Payload), &p)
			return m.Channel == "notices" && (err != nil || slices.Contains(c.kinds, p.Message.Type))
		}))
	}
}
