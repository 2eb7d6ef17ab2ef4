package ssenode

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

func TestHeadAndGreeting(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		s, err := sseclient.Open(ctx, base(n)+"/events?channel=a:b&channel=a:b&pattern=a:*&clientId=me.1", sseclient.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for k, v := range map[string]string{
			"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
			"X-Accel-Buffering": "no", "Access-Control-Allow-Origin": "*",
		} {
			if got := s.Header().Get(k); got != v {
				t.Errorf("%s: got %q, want %q", k, got, v)
			}
		}
		first, err := s.Next(ctx)
		if err != nil || !first.HasRetry || first.Retry < n.cfg.SSENode.Retry*3/4 || first.Retry > n.cfg.SSENode.Retry*5/4 {
			t.Errorf("first block: got %+v, %v; want a retry about %s", first, err, n.cfg.SSENode.Retry)
		}
		ev := next(t, s)
		var c connectedEvent
		if err := json.Unmarshal([]byte(ev.Data), &c); err != nil || ev.Name != "connected" {
			t.Fatalf("got %+v, %v", ev, err)
		}
		if c.ClientID != "me.1" || c.Node != "n1" || fmt.Sprint(c.Channels, c.Patterns) != "[a:b] [a:*]" || !strings.HasSuffix(c.Timestamp, "Z") {
			t.Errorf("connected: %+v", c)
		}
	})
}

func TestDelivers(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		one := open(t, n, "/events?channel=game:1&channel=chat")
		two := open(t, n, "/events/game:2")
		list := open(t, n, "/events?channels=chat,game:2")
		pattern := open(t, n, "/events?pattern=game:*")
		wrapped := open(t, n, "/events?channel=game:1&pattern=%3E&wrap=1")

		settle(t, n)
		seq := u.publish("game:1", `{"event":"move","data":{"x":1}}`)
		u.publish("other", "nobody but the one who watches everything")
		u.publish("game:2", "two\nlines")
		u.live("chat", "not kept")

		ev := want(t, one, "move", `{"x":1}`)
		if id := (wire.ID{Epoch: "e1", Seq: seq}).String(); ev.ID != id {
			t.Errorf("id: got %q, want %q", ev.ID, id)
		}
		if ev := want(t, one, "", "not kept"); ev.HasID {
			t.Errorf("an event without history has id %q", ev.ID)
		}
		want(t, two, "", "two\nlines")
		want(t, list, "", "two\nlines")
		want(t, list, "", "not kept")
		want(t, pattern, "move", `{"x":1}`)
		want(t, pattern, "", "two\nlines")
		want(t, wrapped, "", `{"channel":"game:1","event":"move","data":{"x":1}}`)
		want(t, wrapped, "", `{"channel":"other","event":null,"data":"nobody but the one who watches everything"}`)
		want(t, wrapped, "", `{"channel":"game:2","event":null,"data":"two\nlines"}`)
		want(t, wrapped, "", `{"channel":"chat","event":null,"data":"not kept"}`)
	})
}

// channelNames are those of the issue; payloads likewise.
var channelNames = []string{
	"a.b", "a..b", "*", ">", "a b", "a,b", "ü", "\x00", "\xff", "", "$SYS.x", ":", "a::b", "%", "a%b", "+", "a/b", "sluice.live.>",
}

func TestEveryNameAndPayload(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		payloads := map[string]string{
			"":             "",
			"one":          "one",
			"a\nb":         "a\nb",
			"a\rb":         "a\nb",
			"a\r\nb":       "a\nb",
			"\n":           "\n",
			"\r\n\r\n":     "\n\n",
			"\n\r":         "\n\n",
			" leading":     " leading",
			"id: 7\n\nx":   "id: 7\n\nx",
			"nul\x00":      "nul\x00",
			"not \xffutf8": base64.StdEncoding.EncodeToString([]byte("not \xffutf8")),
		}
		for i, name := range channelNames {
			s := open(t, n, "/events?"+channelQuery(name))
			// What the others get must not come here.
			u.publish(channelNames[(i+1)%len(channelNames)], "for another channel")
			for payload, data := range payloads {
				u.publish(name, payload)
				evName := ""
				if strings.Contains(payload, "\xff") {
					evName = "binary"
				}
				want(t, s, evName, data)
			}
			s.Close()
		}
		big := strings.Repeat("0123456789abcde\n", 900<<10/16)
		s := open(t, n, "/events?channel=big")
		u.publish("big", big)
		want(t, s, "", big)
		raw := strings.Repeat("\xfe\xff", 450<<10)
		u.publish("big", raw)
		want(t, s, "binary", base64.StdEncoding.EncodeToString([]byte(raw)))
	})
}

func TestPathFormNamesAnyChannel(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	for _, name := range channelNames {
		if name == "" {
			continue // "/events/" names no channel
		}
		s := open(t, n, "/events/"+url.PathEscape(name))
		u.publish(name, "hello")
		want(t, s, "", "hello")
		s.Close()
	}
}

// A message that matches several subscriptions of a connection comes once, and
// system subjects match nothing.
func TestOverlapDeliversOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		s := open(t, n, "/events?channel=a:b&pattern=a:*&pattern=%3E&pattern=*:b")
		for i := range 50 {
			u.publish("a:b", fmt.Sprint("ab", i))
			u.publish("a:c", fmt.Sprint("ac", i))
			u.live("x:b", fmt.Sprint("xb", i))
			u.pulse("e1")
			u.publish("z", fmt.Sprint("z", i))
		}
		got := map[string]int{}
		for range 4 * 50 {
			ev := next(t, s)
			key := strings.TrimRight(ev.Data, "0123456789")
			if ev.Data != fmt.Sprint(key, got[key]) {
				t.Fatalf("got %s, want %s%d", ev.Data, key, got[key])
			}
			got[key]++
		}
		u.publish("end", "end")
		want(t, s, "", "end")
	})
}

func TestFormatsOfRoutes(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		if err := c.Routes.Decode("raw:> format=raw; env:> format=envelope"); err != nil {
			t.Fatal(err)
		}
	})
	s := open(t, n, "/events?channel=raw:1&pattern=env:*")
	settle(t, n) // what comes before may be read from the stream, where it is not counted
	const envelope = `{"event":"x","data":1}`
	u.publish("raw:1", envelope)
	u.publish("env:1", "dropped")
	u.publish("env:1", envelope)
	want(t, s, "", envelope)
	want(t, s, "x", "1")
	if d := n.stats.dropped[notEnvelope].Load(); d != 1 {
		t.Errorf("dropped: got %d, want 1", d)
	}
}
