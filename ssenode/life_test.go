package ssenode

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/worker"
)

// A node subscribes for the first client of a channel and unsubscribes a while
// after the last.
func TestSubscribesByNeed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		before := n.nc.NumSubscriptions()
		var streams []*sseclient.Stream
		for i := range 30 {
			streams = append(streams, open(t, n, fmt.Sprintf("/events?channel=c%d&channel=shared", i%10)))
		}
		if got := n.nc.NumSubscriptions() - before; got != 11 {
			t.Errorf("subscriptions: got %d, want 11", got)
		}
		for _, s := range streams {
			s.Close()
		}
		until(t, "all streams are closed", func() bool { return n.stats.open() == 0 })
		until(t, "all is unsubscribed", func() bool { return n.nc.NumSubscriptions() == before })
		if topics, watched := n.hub.counts(); topics != 0 || watched != 0 {
			t.Errorf("topics %d, watched %d are left", topics, watched)
		}
		if gone := n.stats.closes[clientGone].Load(); gone != 30 {
			t.Errorf("closed as client-gone: %d, want 30", gone)
		}
		// Coming back within the linger keeps the subscription.
		open(t, n, "/events?channel=again").Close()
		s := open(t, n, "/events?channel=again")
		// Channels are let go of in the order in which they were left.
		open(t, n, "/events?channel=later").Close()
		until(t, "a channel that was left later is unsubscribed", func() bool {
			n.hub.mu.RLock()
			defer n.hub.mu.RUnlock()
			return n.hub.topics["later"] == nil
		})
		u.publish("again", "still there")
		want(t, s, "", "still there")
	})
}

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine; c.SSENode.Heartbeat = time.Second })
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		var streams []*sseclient.Stream
		for range 9 {
			streams = append(streams, open(t, n, "/events?channel=quiet"))
		}
		for i, s := range streams {
			for beats := 0; beats < 2; {
				ev, err := s.Next(ctx)
				if err != nil {
					t.Fatalf("stream %d: %v", i, err)
				}
				if ev.Comment == "heartbeat" {
					beats++
				}
			}
		}
	})
}

// Many clients come, listen, talk and go at once, while all is published at once.
func TestChurn(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine; c.SSENode.Linger = 0 })
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					u.live(fmt.Sprintf("c%d", i%7), strings.Repeat("x", i%3000))
				}
				if i%50 == 0 {
					_ = u.nc.Flush()
				}
			}
		})
		var clients sync.WaitGroup
		for k := range 8 {
			clients.Go(func() {
				for i := range 25 {
					ctx, cancel := context.WithTimeout(context.Background(), wait)
					s, err := sseclient.Open(ctx, fmt.Sprintf("%s/events?channel=c%d&channel=c%d&pattern=*", base(n), k%7, i%7), sseclient.Options{})
					if err != nil {
						t.Error(err)
						cancel()
						return
					}
					for range i % 5 {
						if _, err := s.NextData(wait); err != nil {
							t.Error(err)
						}
					}
					s.Close()
					cancel()
				}
			})
		}
		clients.Wait()
		close(stop)
		wg.Wait()
		until(t, "all streams are closed", func() bool { return n.stats.open() == 0 })
		until(t, "all is unsubscribed", func() bool { topics, _ := n.hub.counts(); return topics == 0 })
		s := open(t, n, "/events?channel=c1")
		u.live("c1", "alive")
		want(t, s, "", "alive")
	})
}

// Idle clients of the epoll engine have no goroutine.
func TestIdleClientsHaveNoGoroutine(t *testing.T) {
	embedded.NeedLinux(t, "the epoll engine exists nowhere else")
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.Engine = "epoll"; c.SSENode.HeadTimeout = 100 * time.Millisecond })
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	connect := func(count int) {
		target := n.stats.open() + uint64(count)
		for range count {
			c, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			fmt.Fprint(c, "GET /events?channel=idle HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		until(t, "clients are connected", func() bool { return n.stats.open() == target })
	}
	connect(20)
	before := runtime.NumGoroutine()
	connect(500)
	// fasthttp's own workers end a while after their last request.
	until(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= before+50 })
}

func TestClientThatTalksIsClosed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine = engine })
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "stream is open", func() bool { return n.stats.open() == 1 })
		fmt.Fprint(c, "a little is fine")
		garbage := []byte(strings.Repeat("x", 4096))
		until(t, "stream is closed", func() bool {
			_, _ = c.Write(garbage)
			return n.stats.open() == 0
		})
	})
}

// On a planned stop every stream is told when to come back, and Run returns.
func TestDrain(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		cfg := worker.Default[Config]()
		cfg.NATS.URL = u.server.URL()
		cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		cfg.SSENode.Engine = engine
		cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, time.Second
		n, err := New(cfg, embedded.TestLog(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		until(t, "node is ready", func() bool { return n.ready() == nil })
		var streams []*sseclient.Stream
		for range 20 {
			streams = append(streams, open(t, n, "/events?channel=a"))
		}
		cancel()
		until(t, "not ready", func() bool { return n.ready() != nil })
		read, stop := context.WithTimeout(context.Background(), wait)
		defer stop()
		for i, s := range streams {
			retry := false
			for {
				ev, err := s.Next(read)
				if err != nil {
					break
				}
				retry = retry || ev.HasRetry
			}
			if !retry {
				t.Errorf("stream %d ended without a retry", i)
			}
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(wait):
			t.Fatal("Run did not return")
		}
		if d := n.stats.closes[drained].Load(); d != 20 {
			t.Errorf("closed as drain: %d, want 20", d)
		}
	})
}
