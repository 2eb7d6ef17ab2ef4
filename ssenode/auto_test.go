package ssenode

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sluice/shared/sseclient"
	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

// connectedTo opens a stream and returns what it is told that it listens to.
func connectedTo(t *testing.T, n *Node, path string) string {
	t.Helper()
	resp, body := get(t, "GET", base(n)+strings.Replace(path, "/events", "/poll", 1)+"&timeout=0")
	if resp.StatusCode != 200 {
		return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(body))
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	s, err := sseclient.Open(ctx, base(n)+path, sseclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var c connectedEvent
	if err := json.Unmarshal([]byte(next(t, s).Data), &c); err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(c.Channels, c.Patterns...), " ")
}

func TestAutoChannels(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	auto := func(c *Config) {
		if err := c.SSENode.AutoChannels.Decode("sse:broadcast, sse:channel:{clientId}, sse:group:{claim.groups}"); err != nil {
			t.Fatal(err)
		}
	}
	anyone := startNode(t, u, auto)
	f := func(n *Node, path, want string) {
		t.Helper()
		if got := connectedTo(t, n, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	f(anyone, "/events?clientId=me", "sse:broadcast sse:channel:me")
	f(anyone, "/events?clientId=me&channel=x&pattern=y:*", "x sse:broadcast sse:channel:me y:*")
	f(anyone, "/events?clientId=me&channel=sse:channel:me&channel=x", "sse:channel:me x sse:broadcast")
	secured := startNode(t, u, func(c *Config) {
		auto(c)
		c.SSENode.JWT.Secret = auth.NewSecret(testSecret)
		if err := c.SSENode.PublicChannels.Decode("news,sse:broadcast"); err != nil {
			t.Fatal(err)
		}
		c.SSENode.MaxChannels = 4
	})
	token := "&token=" + hs(t, "groups", []string{"g1", "g2"})
	f(secured, "/events?clientId=anna"+token, "sse:broadcast sse:channel:anna sse:group:g1 sse:group:g2")
	f(secured, "/events?clientId=anna&channel=x&channel=sse:group:g1"+token, "x sse:group:g1 sse:broadcast sse:channel:anna sse:group:g2")
	f(secured, "/events?clientId=anna&channel=sse:group:g3"+token, `403 {"error":"Forbidden","channel":"sse:group:g3"}`)
	f(secured, "/events?clientId=anna&channel=x&token="+hs(t, "groups", []string{"1", "2", "3", "4"}), `400 {"error":"6 channels come by themselves: at most 4"}`)
	if n := secured.gate.Refused(limits.Channels); n != 1 {
		t.Errorf("%d were counted as over the limit, want 1", n)
	}
	f(secured, "/events?clientId=anna&channel=x&token="+hs(t), "x sse:broadcast sse:channel:anna")
	f(secured, "/events?channel=news", "news sse:broadcast")
	f(secured, "/events?", "sse:broadcast")
	f(secured, "/events?channel=sse:channel:anna", `401 {"error":"Unauthorized","code":"missing"}`)
	none := startNode(t, u, nil)
	if got := connectedTo(t, none, "/events?clientId=me"); !strings.HasPrefix(got, "400 ") {
		t.Errorf("no channel at all: %s", got)
	}
}

// What comes on them reaches those whom it is for.
func TestAutoChannelsDeliver(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		if err := c.SSENode.AutoChannels.Decode("sse:broadcast,sse:channel:{clientId}"); err != nil {
			t.Fatal(err)
		}
	})
	a, b := open(t, n, "/events?clientId=a"), open(t, n, "/events?clientId=b&channel=x")
	u.publish("sse:channel:a", "to a")
	u.publish("sse:channel:b", "to b")
	u.publish("sse:broadcast", "to all")
	wants(t, a, "to a", "to all")
	wants(t, b, "to b", "to all")
}
