package ssenode

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/sseclient"
)

// Thousands of clients lose their node at once and come back to one that has
// never seen their channels: nothing is lost or repeated, and the node asks the
// stream for each stretch once, not once for each client.
func TestReconnectionStorm(t *testing.T) {
	clients := 5000
	if testing.Short() {
		clients = 500
	}
	u := newUpstream(t)
	n := startNode(t, u, nil)
	const channels, missed = 20, 100
	id := idOf(u.publish("elsewhere", "the last that they have seen"))
	name := func(i int) string { return fmt.Sprintf("storm:%d", i%channels) }
	for k := range missed {
		for i := range channels {
			u.publish(name(i), strconv.Itoa(k))
		}
	}
	before := n.history.asked.Load()
	conns := make([]net.Conn, clients)
	readers := make([]*sseclient.Reader, clients)
	each := func(f func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		for w := range 50 {
			wg.Go(func() {
				for i := w; i < clients; i += 50 {
					if err := f(i); err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	each(func(i int) (err error) {
		if conns[i], err = net.Dial("tcp", n.Addr().String()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(conns[i], "GET /events?channel=%s HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\n\r\n", name(i), id)
		return err
	})
	data := func(i int) (string, error) {
		for {
			ev, err := readers[i].Next()
			if err != nil {
				return "", err
			}
			if ev.HasData && ev.Name != "connected" {
				return ev.Name + ev.Data, nil
			}
		}
	}
	each(func(i int) error {
		if err := conns[i].SetReadDeadline(time.Now().Add(6 * wait)); err != nil {
			return err
		}
		readers[i] = sseclient.NewReader(afterHead(t, conns[i]))
		for k := range missed {
			if got, err := data(i); err != nil || got != strconv.Itoa(k) {
				return fmt.Errorf("got %q, %v, want %d", got, err, k)
			}
		}
		return nil
	})
	for i := range channels {
		u.publish(name(i), "live")
	}
	each(func(i int) error {
		if got, err := data(i); err != nil || got != "live" {
			return fmt.Errorf("got %q, %v, want what comes live", got, err)
		}
		return nil
	})
	asked := n.history.asked.Load() - before
	t.Logf("%d clients came back, the stream was asked %d times", clients, asked)
	// A page and the stream's beginning for each channel, a few to learn where
	// channels stand, and for who came while those were under way.
	if asked > channels*6 {
		t.Errorf("the stream was asked %d times for %d channels", asked, channels)
	}
}

// A node that is stuck while more comes than its inbox holds loses messages of
// nats.go's. It notices, and fetches them before it goes on.
func TestSlowConsumerCatchesUp(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	// The client must not be the slow one.
	n := startNode(t, u, func(c *Config) { c.SSENode.RingBytes = 64 << 20 })
	s := open(t, n, "/events?pattern=s:*")
	settle(t, n)
	release := make(chan struct{})
	stuck := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		n.dispatch.call(context.Background(), func() { close(stuck); <-release })
	})
	<-stuck
	const channels, each = 100, inboxSize/100 + 100
	for k := range each {
		for i := range channels {
			if err := u.nc.Publish(fmt.Sprintf("%ss.%d", u.names.Log(), i), fmt.Appendf(nil, "%d %d", i, k)); err != nil {
				t.Fatal(err)
			}
		}
	}
	u.publish("s:last", "last 0")
	until(t, "the inbox is full", func() bool { return len(n.hub.inbox) == cap(n.hub.inbox) })
	close(release)
	wg.Wait()
	expect := map[string]int{}
	for range channels*each + 1 {
		ev := next(t, s)
		channel, number, _ := strings.Cut(ev.Data, " ")
		if ev.Name != "" || number != strconv.Itoa(expect[channel]) {
			t.Fatalf("got event %q with %s, want number %d of its channel", ev.Name, short(ev.Data), expect[channel])
		}
		expect[channel]++
	}
	if n.stats.slow.Load() == 0 || n.stats.relearned.Load() == 0 {
		t.Errorf("noticed %d times, %d channels begun anew", n.stats.slow.Load(), n.stats.relearned.Load())
	}
}
