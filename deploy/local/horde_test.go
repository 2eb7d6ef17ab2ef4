//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/deploy/bench/load"
	"sluice/shared/embedded"
)

// horde is many bad clients of a node, from one address.
type horde struct {
	t     *testing.T
	addr  string // of the node
	from  string // address that they come from
	conns []net.Conn
}

// hordeKinds are the ways in which they are bad.
const hordeKinds = 6

// join makes the i-th of them. It does not wait for anything but to be connected.
func (h *horde) join(i int) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(h.from)}, Timeout: wait, KeepAlive: -1}
	c, err := d.Dial("tcp", h.addr)
	if err != nil {
		// So busy that the kernel takes none; or it was reset before it was told so.
		return
	}
	tcp := c.(*net.TCPConn)
	_ = c.SetDeadline(time.Now().Add(wait))
	switch i % hordeKinds {
	case 0: // half-open
	case 1: // a head that comes byte by byte, see drip
		_, _ = io.WriteString(c, "GET /events?channel=x HTTP/1.1\r\nHost: ")
	case 2: // garbage
		_, _ = io.WriteString(c, "\x16\x03\x01\x00\xff\x00\r\n\x00\r\n\r\n"+strings.Repeat("\xff\x00", 100))
	case 3: // gone at once
		if i%4 < 2 {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	case 4: // pipelined junk, of which no answer is read
		_ = tcp.SetReadBuffer(4 << 10)
		_, _ = io.WriteString(c, strings.Repeat("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 200)+"GET /events?channel=\r\n\r\n")
	case 5: // a stream, and junk on it
		_, _ = fmt.Fprintf(c, "GET /events?channel=horde:%d HTTP/1.1\r\nHost: x\r\n\r\n%s", i, strings.Repeat("junk", 8<<10))
	}
	h.conns[i] = c
}

// attack makes all of them, a few at a time; they stay. It returns once all have come.
func (h *horde) attack() {
	const workers = 32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(h.conns); i += workers {
				h.join(i)
			}
		})
	}
	wg.Wait()
}

// drip sends one more byte on each head that has not ended.
func (h *horde) drip() {
	for i, c := range h.conns {
		if i%hordeKinds == 1 && c != nil {
			_, _ = c.Write([]byte("x"))
		}
	}
}

func (h *horde) leave() {
	for i, c := range h.conns {
		if c != nil {
			c.Close()
		}
		h.conns[i] = nil
	}
}

// ticker publishes a message on each channel again and again, until it is stopped.
type ticker struct {
	stop func()
	done chan struct{}
	sent int // on each channel; to be read once stopped
}

func tick(t *testing.T, s *site, channels int) *ticker {
	ctx, cancel := context.WithCancel(t.Context())
	k := &ticker{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(k.done)
		for ctx.Err() == nil {
			for i := range channels {
				s.publish(load.Channel(i), string(load.Payload(uint64(k.sent), time.Now())))
			}
			k.sent++
			pause(ctx, 20*time.Millisecond)
		}
	}()
	return k
}

// total ends it and returns how often it has published on each channel.
func (k *ticker) total() int {
	k.stop()
	<-k.done
	return k.sent
}

// Ten thousand bad clients beside a thousand good ones, twice: the good ones get each
// message once and in order, new ones get in meanwhile, and afterwards the node holds
// what it held before. CI=true has all of them, a test by hand a fifth.
func TestHorde(t *testing.T) {
	bad, good, channels := 2000, 200, 10
	if os.Getenv("CI") == "true" {
		bad, good = 10000, 1000
	}
	c := &churn{site: newSite(t, embedded.NATSProcessOptions{Config: `http: "127.0.0.1:-1"`}, 1, "SSENODE_LINGER=300ms", "SSENODE_RING_AGE=1s")}
	c.addr = strings.TrimPrefix(c.url(0), "http://")
	_, rest, _ := strings.Cut(c.nats.Output(), "http monitor on ")
	c.monitor = "http://" + strings.Fields(rest + " ?")[0]
	node := c.nodes[0]
	clients := openGood(t, c.addr, good, channels)
	base := c.look(node)
	limit := base.limit()
	t.Logf("before: %v", base)
	h := &horde{t: t, addr: c.addr, from: "127.0.0.2", conns: make([]net.Conn, bad)}
	var number, due int
	for wave := range 2 {
		clients.Begin(0)
		began := time.Now()
		k := tick(t, c.site, channels)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.attack()
		}()
		in := 0
		for attacking := true; attacking; in++ {
			select {
			case <-ended:
				attacking = false
			default:
			}
			st := c.open(0, "/events?channel=x")
			st.Close()
		}
		h.drip()
		peak := c.look(node)
		took := time.Since(began)
		number = k.total()
		due += number * good
		if err := clients.Wait(int64(due), wait); err != nil {
			t.Fatal(err)
		}
		h.leave()
		after := c.rest(node, limit)
		limit = limit.within(after)
		t.Logf("wave %d: attacked for %.1fs, %d came in meanwhile, %d messages each; then %v; after %.1fs %v",
			wave, took.Seconds(), in, number, peak, time.Since(began).Seconds(), after)
	}
	if err := clients.Err(); err != nil {
		t.Fatal(err)
	}
	for name, value := range node.metrics() {
		if strings.HasPrefix(name, "sluice_ssenode_limited_total{") && value > 0 {
			t.Logf("%s %v", name, value)
		}
	}
}

// openGood connects clients that check each message.
func openGood(t *testing.T, addr string, clients, channels int) *load.Clients {
	t.Helper()
	c, err := load.Open(addr, load.Options{
		Clients: clients, Wait: wait,
		Request: func(i int) (string, string) { return load.Path(i % channels), "" },
		Channel: func(i int) int { return i % channels },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// With limits by address a horde takes only its own share: it cannot keep others
// out of a node that is smaller than it.
func TestHordeWithLimits(t *testing.T) {
	const bad, good, channels, each = 2000, 100, 5, 300
	s := newSite(t, embedded.NATSProcessOptions{}, 1,
		fmt.Sprint("SSENODE_MAX_CONNECTIONS=", 2*each), fmt.Sprint("SSENODE_MAX_PENDING=", 2*each), fmt.Sprint("SSENODE_MAX_PER_ADDRESS=", each))
	node := s.nodes[0]
	addr := strings.TrimPrefix(s.url(0), "http://")
	before := descriptors(t, node.cmd.Process.Pid)
	h := &horde{t: t, addr: addr, from: "127.0.0.2", conns: make([]net.Conn, bad)}
	h.attack()
	// Streams that would stay, more than the node takes.
	var streams []net.Conn
	for range 3 * each {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(h.from)}, Timeout: wait}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n\r\n")
		streams = append(streams, c)
	}
	clients := openGood(t, addr, good, channels)
	clients.Begin(0)
	if most := 2*each + each; descriptors(t, node.cmd.Process.Pid) > before+most+good {
		t.Errorf("%d descriptors for one address", descriptors(t, node.cmd.Process.Pid)-before)
	}
	k := tick(t, s, channels)
	h.drip()
	until(t, "messages have come", func() bool { return clients.Got() > 10*good })
	if err := clients.Wait(int64(k.total()*good), wait); err != nil {
		t.Fatal(err)
	}
	m := node.metrics()
	if m[`sluice_ssenode_limited_total{reason="address"}`] == 0 || m[`sluice_ssenode_limited_total{reason="node"}`] != 0 {
		t.Errorf("over a limit: of the address %v, of the node %v", m[`sluice_ssenode_limited_total{reason="address"}`], m[`sluice_ssenode_limited_total{reason="node"}`])
	}
	h.leave()
	for _, c := range streams {
		c.Close()
	}
	clients.Close()
	until(t, "descriptors are back", func() bool { return descriptors(t, node.cmd.Process.Pid) <= before+spareDescriptors })
	until(t, "nothing is counted", func() bool {
		return node.metric("sluice_ssenode_limited_connections") == 0 && node.metric("sluice_ssenode_pending_connections") == 0 && node.metric("sluice_ssenode_limited_addresses") == 0
	})
}

// A node that cannot open more files goes on, and takes clients again when it can.
func TestOutOfFiles(t *testing.T) {
	s := newSite(t, embedded.NATSProcessOptions{}, 1)
	node := s.nodes[0]
	pid := node.cmd.Process.Pid
	st := s.open(0, "/events?channel=x")
	positioned(t, st)
	before := descriptors(t, pid)
	few := unix.Rlimit{Cur: uint64(before + 50), Max: 20000}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	few.Max = old.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(s.url(0), "http://")
	var streams []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /events?channel=x HTTP/1.1\r\nHost: x\r\n\r\n")
		streams = append(streams, c)
	}
	node.says("(no more files)")
	s.publish("x", "still there")
	want(t, st, "", "still there")
	for _, c := range streams {
		c.Close()
	}
	until(t, "there is room again", func() bool { return descriptors(t, pid) <= before+spareDescriptors })
	other := s.open(0, "/events?channel=x")
	s.publish("x", "to both")
	want(t, st, "", "to both")
	want(t, other, "", "to both")
	if err := node.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the node: %v", err)
	}
	if n := node.metric(`sluice_ssenode_limited_total{reason="files"}`); n == 0 {
		t.Error("it is not counted")
	}
}
