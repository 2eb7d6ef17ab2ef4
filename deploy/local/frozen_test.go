package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// A client that reads nothing, beside 200 that do, through the whole path:
// rounds without and with it in turn; the 99th percentiles of the others are
// compared within the run, the best of three pairs counts, because the machine
// has other things to do. The node's memory stays within its rings' bound.
func TestFrozenClient(t *testing.T) {
	const ringTotal = 32 << 20
	s := newSite(t, embedded.NATSProcessOptions{}, 1, "SSENODE_RING_TOTAL="+strconv.Itoa(ringTotal), "SSENODE_RING_BYTES=4194304")
	const clients = 200
	var streams []*sseclient.Stream
	for range clients {
		streams = append(streams, s.open(0, "/events?channel=c"))
	}
	round := func() time.Duration { return p99(t, s, streams, 60) }
	round() // warm-up
	best := 1e9
	for range 3 {
		without := round()
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url(0), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprint(c, "GET /events?channel=c&channel=flood HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "it is connected", func() bool { return s.nodes[0].metric("sluice_ssenode_connections") == clients+1 })
		for range 40 { // so that it is stuck before the others are measured
			s.publish("flood", strings.Repeat("x", 100_000))
		}
		round() // until that has passed
		with := round()
		c.Close()
		until(t, "it has left", func() bool { return s.nodes[0].metric("sluice_ssenode_connections") == clients })
		t.Logf("p99 without %s, with %s", without, with)
		best = min(best, float64(with)/float64(without))
	}
	if best > 2 {
		t.Errorf("p99 with a frozen client is %.1f times that without", best)
	}
	rss := memory(t, s.nodes[0].cmd.Process.Pid, "VmRSS")
	t.Logf("node: %d MiB resident", rss>>20)
	// Twice the rings, as the collector lets the heap double, and the program.
	if rss > 2*ringTotal+128<<20 {
		t.Errorf("the node takes %d MiB", rss>>20)
	}
}

// p99 publishes messages one after the other and takes each one's time to every
// client.
func p99(t *testing.T, s *site, streams []*sseclient.Stream, messages int) time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for _, st := range streams {
		wg.Go(func() {
			for range messages {
				ev, err := st.NextData(wait)
				if err != nil {
					t.Error(err)
					return
				}
				sent, _, _ := strings.Cut(ev.Data, " ")
				ns, err := strconv.ParseInt(sent, 10, 64)
				if err != nil {
					t.Errorf("got %+v", ev)
				}
				mu.Lock()
				all = append(all, time.Duration(time.Now().UnixNano()-ns))
				mu.Unlock()
			}
		})
	}
	pad := strings.Repeat("x", 2000)
	for range messages {
		s.publish("c", fmt.Sprint(time.Now().UnixNano(), " ", pad))
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}
