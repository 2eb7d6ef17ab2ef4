package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// idleThrough opens a stream through each balancer, to a node without heartbeats, on
// which nothing happens. The function returned waits until that has been so for 35
// seconds, or SLUICE_IDLE, and then demands that the streams still bring an event. On
// the same node it tries whose address counts; and beside that what is answered to a
// request that does not come to its end.
func idleThrough(t *testing.T) func() {
	t.Helper()
	idle := 35 * time.Second
	if text := os.Getenv("SLUICE_IDLE"); text != "" {
		var err error
		if idle, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SLUICE_IDLE: %v", err)
		}
	}
	s := newSite(t, embedded.NATSProcessOptions{}, 1, "SSENODE_HEARTBEAT=0", "SSENODE_MAX_PER_ADDRESS=2", "SSENODE_TRUSTED_PROXIES=127.0.0.1")
	var streams []*sseclient.Stream
	var unfinished []*tls.Conn
	for i, name := range balancers {
		b := newBalanced(t, s, name, "127.0.0.1:1")
		unfinished = append(unfinished, b.begins("GET /events?channel=idle HTTP/1.1\r\nHost: "))
		addressCounts(b, fmt.Sprintf("127.0.1.%d", i+1), fmt.Sprintf("127.0.2.%d", i+1))
		for j, http2 := range []bool{false, true} {
			streams = append(streams, b.stream(b.balancer.client(http2, fmt.Sprintf("127.0.0.%d", 10+2*i+j)), "channel=idle"))
		}
	}
	began := time.Now()
	return func() {
		t.Helper()
		pause(t.Context(), idle-time.Since(began))
		s.publish("idle", "still there")
		for _, st := range streams {
			want(t, st, "", "still there")
		}
		t.Logf("idle for %v", time.Since(began).Round(time.Second))
		for i, c := range unfinished {
			// An EventSource comes back if nothing is answered, and not after 408.
			_ = c.SetReadDeadline(time.Now().Add(wait))
			if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, to a head that never ends: %q, %v", balancers[i], b, err)
			}
		}
	}
}

// begins sends the beginning of a request by HTTP/1.1.
func (b *balanced) begins(head string) *tls.Conn {
	b.t.Helper()
	c, err := tls.Dial("tcp", b.balancer.Addr(), &tls.Config{RootCAs: b.balancer.ca.Pool, ServerName: "localhost"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, head); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// addressCounts demands that a client's own address counts for limits, whatever it
// says of itself.
func addressCounts(b *balanced, first, second string) {
	b.t.Helper()
	open := func(from string) sseclient.Event {
		b.t.Helper()
		st, err := sseclient.Open(b.t.Context(), b.balancer.url+"/events?channel=limit", sseclient.Options{Client: b.balancer.client(true, from),
			Header: http.Header{"X-Forwarded-For": {"10.1.2." + fmt.Sprint(rand.IntN(256))}, "Forwarded": {"for=10.3.2.1"}}})
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(st.Close)
		ev, err := st.NextWithin(wait)
		for err == nil && ev.Name == "" {
			ev, err = st.NextWithin(wait)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			b.t.Fatal(err)
		}
		return ev
	}
	for range 2 {
		if ev := open(first); ev.Name != "connected" {
			b.t.Errorf("%s: got %+v", b.name, ev)
		}
	}
	if ev := open(first); ev.Name != "" {
		b.t.Errorf("%s: a third stream of an address: %+v", b.name, ev)
	}
	if ev := open(second); ev.Name != "connected" {
		b.t.Errorf("%s: another address: %+v", b.name, ev)
	}
}
