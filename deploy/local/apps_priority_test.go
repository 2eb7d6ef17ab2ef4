package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/shared/sseclient"
)

// The app "priority": a high-priority channel beside a normal one and an unimportant
// one. Whoever keeps up gets all of them as they were published.
func TestAppPriority(t *testing.T) {
	t.Parallel()
	a := newApps(t, appRoutes)
	page := a.safe(0, "/events?channel=alerts:demo&channel=updates:demo&channel=trivia:demo")
	urgent := a.safe(1, "/events?pattern=alerts:%3E")
	stop := a.play(1, 400, "alerts")
	page.reads(100)
	page.comesBack()
	page.reads(100)
	stop()
	page.gets(a.rec.each("alerts:demo", "updates:demo", "trivia:demo")...)
	urgent.gets(a.rec.of("alerts:demo"))
}

// A client that is behind: the urgent comes first, the unimportant is dropped first, and
// it is told; what is neither comes in order, all of it.
func TestAppPriorityBehind(t *testing.T) {
	t.Parallel()
	a := newApps(t, appRoutes+"; > history=5000/10m", "SSENODE_BEHIND_AFTER=1s")
	c, err := net.Dial("tcp", strings.TrimPrefix(a.url(0), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
	_ = c.SetDeadline(time.Now().Add(2 * wait))
	fmt.Fprint(c, "GET /events?channel=alerts:x&channel=updates:x&channel=trivia:x HTTP/1.1\r\nHost: x\r\n\r\n")
	node := a.nodes[0]
	until(t, "it is connected", func() bool { return node.metric("sluice_ssenode_connections") == 1 })
	r := sseclient.NewReader(c)
	for r.LastEventID() == "" { // its first position
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}

	// It reads nothing, and its socket is full for longer than it may be behind.
	const n = 500
	fill := strings.Repeat("x", 5000)
	for i := range n {
		a.publish("updates:x", fmt.Sprintf("update %d %s", i, fill))
		a.publish("trivia:x", fmt.Sprintf("trivia %d %s", i, fill))
	}
	in, _ := node.events()
	until(t, "the node has it all", func() bool { in, _ = node.events(); return in == 2*n })
	pause(t.Context(), 2*time.Second)
	a.publish("alerts:x", "urgent")
	a.publish("trivia:x", "trivia newest")
	until(t, "the node has the alert", func() bool { in, _ = node.events(); return in == 2*n+2 })

	updates, trivia, urgentAfter, gaps := 0, 0, -1, 0
	var newest string
	for updates < n || urgentAfter < 0 || newest != "trivia newest" {
		ev, err := r.Next()
		if err != nil {
			t.Fatalf("after %d updates, %d trivia, the alert after %d: %v", updates, trivia, urgentAfter, err)
		}
		switch what, _, _ := strings.Cut(ev.Data, " "); {
		case ev.Name == "gap":
			gaps++
			if !strings.Contains(ev.Data, `"dropped"`) || !strings.Contains(ev.Data, `"trivia:x"`) || strings.Contains(ev.Data, `"updates:x"`) {
				t.Errorf("gap %s", ev.Data)
			}
		case what == "update":
			if !strings.HasPrefix(ev.Data, fmt.Sprintf("update %d ", updates)) {
				t.Fatalf("%.20q instead of update %d", ev.Data, updates)
			}
			updates++
		case what == "trivia":
			trivia, newest = trivia+1, ev.Data
		case what == "urgent":
			if urgentAfter >= 0 || ev.HasID && updates < n {
				t.Errorf("the alert %+v, after %d updates; before after %d", ev, updates, urgentAfter)
			}
			urgentAfter = updates
		}
	}
	t.Logf("the alert came after %d of %d updates; %d of %d trivia", urgentAfter, n, trivia, n+1)
	// As much as the sockets' buffers held came before it.
	if urgentAfter > n/2 || trivia > n/2 || gaps != 1 {
		t.Errorf("the alert after %d of %d updates, %d of %d trivia, %d gaps", urgentAfter, n, trivia, n+1, gaps)
	}
}
