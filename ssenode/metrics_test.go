package ssenode

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// What comes for the channels of clients is counted apart from what comes to every
// node: a node that nobody listens on gets pulses alone.
func TestMessagesByKind(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	a, b := startNode(t, u, nil), startNode(t, u, nil)
	s := open(t, a, "/events?channel=x")
	settle(t, a)
	events, others := a.stats.messages.Load(), b.stats.messages.Load()
	u.publish("x", "1")
	u.publish("x", "2")
	u.publish("y", "no")
	wants(t, s, "1", "2")
	pulses := b.stats.system.Load()
	until(t, "both have heard of it by a pulse", func() bool { return b.stats.system.Load() > pulses+1 })
	until(t, "it is counted", func() bool { return a.stats.messages.Load() >= events+2 })
	if got := a.stats.messages.Load() - events; got != 2 {
		t.Errorf("%d messages", got)
	}
	if got := b.stats.messages.Load() - others; got != 0 {
		t.Errorf("%d messages of nobody's channel", got)
	}
}

// Every byte of a stream is counted: its head, whether it went at once or with the rest,
// what belongs to no channel, events.
func TestBytesOut(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine, c.SSENode.Heartbeat = engine, 0 })
		read := 0
		for i := range 2 { // the second one has to wait for nothing
			c, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(wait))
			fmt.Fprint(c, "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n")
			read += readTo(t, c, "\nid: ")
			u.publish("a", fmt.Sprint("event ", i))
			read += readTo(t, c, fmt.Sprintf("data: event %d\n\n", i))
			c.Close()
			until(t, "it is gone", func() bool { return n.stats.open() == 0 })
		}
		if got := int(n.stats.bytes.Load()); got != read {
			t.Errorf("%d bytes counted, %d read", got, read)
		}
	})
}

// readTo reads up to a text, and returns how many bytes that were.
func readTo(t *testing.T, c net.Conn, text string) int {
	t.Helper()
	var all strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(all.String(), text); all.Write(b) {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("no %q in %q: %v", text, all.String(), err)
		}
	}
	return all.Len()
}
