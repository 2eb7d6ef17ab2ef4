package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// The real programs, with a real Redis and NATS where they are installed:
// 200 clients on 20 channels over two nodes, 100,000 messages, without CI=true 40,000.
// Every client gets its channels' messages, in order, each once, and nothing else.
func TestEveryMessageOnceInOrder(t *testing.T) {
	// The few clients that take everything may read slower than Redis publishes,
	// as the test shares the machine with all the rest: history has to hold it.
	s := newSite(t, embedded.NATSProcessOptions{}, 2, "ROUTES=load:* history=20000/10m")
	const clients, channels = 200, 20
	messages := 40_000
	if os.Getenv("CI") == "true" {
		messages = 100_000
	}
	perChannel := messages / channels
	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	type client struct {
		stream *sseclient.Stream
		next   map[string]int // the number expected, by channel
	}
	var all []client
	for i := range clients {
		c := client{next: map[string]int{}}
		for range 1 + rng.IntN(2) {
			c.next[fmt.Sprintf("load:%d", rng.IntN(channels))] = 0
		}
		query := url.Values{}
		for name := range c.next {
			query.Add("channel", name)
		}
		if i%50 == 0 { // a few by pattern, which overlaps their channels
			query.Add("pattern", "load:*")
			for k := range channels {
				c.next[fmt.Sprintf("load:%d", k)] = 0
			}
		}
		c.stream = s.open(i%2, "/events?"+query.Encode())
		all = append(all, c)
	}
	for _, c := range all { // once all are there: each waits for a pulse
		positioned(t, c.stream)
	}
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() {
			for left := len(c.next) * perChannel; left > 0; left-- {
				ev, err := c.stream.NextData(wait)
				if err != nil {
					t.Errorf("client %d, %d events missing: %v", i, left, err)
					return
				}
				name, number, _ := strings.Cut(ev.Data, " ")
				n, err := strconv.Atoi(number)
				if expect, ok := c.next[name]; err != nil || !ok || n != expect || ev.ID == "" {
					t.Errorf("client %d: got %+v, expected %d on that channel (its own: %v)", i, ev, expect, ok)
					return
				}
				c.next[name]++
			}
		})
	}
	pipe := s.client.Pipeline()
	for i := range messages {
		name := fmt.Sprintf("load:%d", i%channels)
		pipe.Publish(t.Context(), name, fmt.Sprintf("%s %d", name, i/channels))
		if pipe.Len() == 500 {
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	// And nothing more than that.
	for k := range channels {
		s.publish(fmt.Sprintf("load:%d", k), "end")
	}
	for _, c := range all {
		for range c.next {
			want(t, c.stream, "", "end")
		}
	}
	if n := s.bridge.metric("sluice_bridge_dropped_total"); n != 0 {
		t.Errorf("the bridge dropped %v", n)
	}
	s.nodes[0].stop()
	s.bridge.stop()
}

// Every name and payload of the issue, from Redis to the client.
func TestNamesAndPayloads(t *testing.T) {
	t.Parallel()
	s := newSite(t, embedded.NATSProcessOptions{}, 1)
	names := []string{"a.b", "a..b", "*", ">", "a b", "a,b", "ü", "\x00", "\xff", "", "$SYS.x", ":", "a::b"}
	payloads := map[string]string{
		"": "", "one": "one", "a\nb": "a\nb", "a\rb": "a\nb", "a\r\nb": "a\nb", " leading": " leading",
		"\xffnot": base64.StdEncoding.EncodeToString([]byte("\xffnot")),
	}
	for i, name := range names {
		st := s.open(0, "/events?channel="+url.QueryEscape(name))
		s.publish(names[(i+1)%len(names)], "for another")
		for payload, data := range payloads {
			s.publish(name, payload)
			event := ""
			if payload[:min(1, len(payload))] == "\xff" {
				event = "binary"
			}
			want(t, st, event, data)
		}
		st.Close()
	}
	long := strings.Repeat("x", 5000)
	s.publish(long, "refused")
	if code, body := fetch(t, s.url(0)+"/events?channel="+long); code != 400 || !strings.Contains(body, `{"error":`) {
		t.Errorf("channel of 5,000 bytes: %d %s", code, body)
	}
	until(t, "the bridge counts the long name", func() bool { return s.bridge.metric("sluice_bridge_dropped_total") == 1 })
	st := s.open(0, "/events?channel=big")
	big := strings.Repeat("0123456789abcde\n", 900<<10/16)
	s.publish("big", big)
	want(t, st, "", big)
}

// The largest payload that fits the server's max_payload arrives; above it the
// message is refused, and nobody's connection to NATS is closed for it.
func TestMaxPayload(t *testing.T) {
	t.Parallel()
	const limit = 256 << 10
	s := newSite(t, embedded.NATSProcessOptions{MaxPayload: limit}, 1)
	st := s.open(0, "/events?channel=big")
	// What is reserved for headers shows in the log of the first refusal.
	s.publish("big", strings.Repeat("x", limit))
	most, err := strconv.Atoi(s.bridge.says(`reason=too-large.* limit=(\d+)`))
	if err != nil || most >= limit || most < limit-1024 {
		t.Fatalf("limit %d, %v", most, err)
	}
	for _, size := range []int{most - 1, most, most + 1, limit - 1, limit, limit + 1} {
		s.publish("big", strings.Repeat("x", size))
	}
	s.publish("big", "after")
	for _, size := range []int{most - 1, most, len("after")} {
		ev := next(t, st)
		for ev.Name == "gap" { // tells of those that are refused
			ev = next(t, st)
		}
		if len(ev.Data) != size {
			t.Fatalf("got %d bytes, want %d", len(ev.Data), size)
		}
	}
	if n := s.bridge.metric("sluice_bridge_dropped_total"); n != 5 {
		t.Errorf("refused %v, want 5", n)
	}
	if log := s.bridge.output(); strings.Count(log, "too-large") != 1 || strings.Contains(log, "connection lost") {
		t.Errorf("log: %s", log)
	}
}

// The two ways into Redis that need no other tool.
func TestPublisherProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, embedded.NATSProcessOptions{}, 1)
	st := s.open(0, "/events?channel=race-events:demo&pattern=stocks:*")
	out := runPublisher(t, s, "", "send", "race-events:demo", `{"type":"race-start"}`)
	if !strings.Contains(out, "1") {
		t.Errorf("send says %q", out)
	}
	want(t, st, "", `{"type":"race-start"}`)
	runPublisher(t, s, "from standard input", "send", "-event", "note", "race-events:demo")
	want(t, st, "note", `"from standard input"`)
	runPublisher(t, s, "", "simulate", "stocks", "-rate", "50", "-for", "500ms")
	if ev := next(t, st); !strings.Contains(ev.Data, `"symbol"`) {
		t.Errorf("simulated stocks: %s", ev.Data)
	}
}

// Hostile connections leave nothing behind in the node.
func TestNothingIsLeaked(t *testing.T) {
	embedded.NeedLinux(t, "descriptors are counted by /proc")
	s := newSite(t, embedded.NATSProcessOptions{}, 1, "SSENODE_HEAD_TIMEOUT=300ms", "SSENODE_LINGER=100ms")
	node := s.nodes[0]
	open := func() int { return descriptors(t, node.cmd.Process.Pid) }
	keeper := s.open(0, "/events?channel=kept")
	before := open()
	subs := node.metric("sluice_ssenode_nats_subscriptions")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { hostile(t, s, i) })
	}
	wg.Wait()
	until(t, "descriptors are closed", func() bool { return open() <= before+2 })
	until(t, "one stream is left", func() bool { return node.metric("sluice_ssenode_connections") == 1 })
	until(t, "subscriptions are gone", func() bool { return node.metric("sluice_ssenode_nats_subscriptions") == subs })
	s.publish("kept", "still here")
	want(t, keeper, "", "still here")
}
