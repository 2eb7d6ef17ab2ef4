package ssenode

import (
	"errors"
	"io"
	"math"
	"net"
	"regexp"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/worker"
	"sluice/ssenode/engine"
)

// drainEvenly drains a loop, tick by tick, and demands that at each the part of the
// streams is closed that is gone of the time. Before each it calls f with that part.
func drainEvenly(t *testing.T, l *loop, drain time.Duration, f func(gone float64)) {
	t.Helper()
	clients := l.sessions.n
	for at, gone := time.Duration(0), 0.0; gone < 1; at += engine.TickEvery {
		gone = min(float64(at)/float64(drain), 1)
		f(gone)
		l.drain(l.began.UnixNano(), l.began.Add(drain).UnixNano(), l.began.Add(at).UnixNano())
		l.bury()
		// Nobody is closed in part; and float64 is not exact.
		if closed, due := clients-l.sessions.n, gone*float64(clients); math.Abs(float64(closed)-due) > 1.001 {
			t.Fatalf("%d of %d are closed after %v of %v, want %.0f", closed, clients, at, drain, due)
		}
	}
	if l.sessions.n != 0 || l.stats.closes[drained].Load() != uint64(clients) {
		t.Errorf("%v: %d are left, %d are counted", drain, l.sessions.n, l.stats.closes[drained].Load())
	}
}

// Streams are closed evenly over the drain time, also when all are behind.
func TestDrainSpreads(t *testing.T) {
	t.Parallel()
	for _, drain := range []time.Duration{engine.TickEvery, 1100 * time.Millisecond, 20 * time.Second, time.Minute} {
		for _, behind := range []bool{false, true} {
			l, _ := newOld(10_000, 0)
			for _, s := range all(l) {
				if behind {
					s.fallBehind()
				}
			}
			drainEvenly(t, l, drain, func(float64) {})
		}
	}
}

// narrow is a socket that has room for so many bytes.
type narrow struct {
	room int
	text []byte
}

func (s *narrow) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.room -= n
	s.text = append(s.text, p[:n]...)
	return n, nil
}

func (s *narrow) Close() {}

var lastWords = regexp.MustCompile(`^retry: \d+\n\nid: e1-7\n\n(retry: \d+\n\n)?$`)

// A stream that is behind goes last, so that it is told if it catches up in time; so does
// one whose socket has not taken all of what it was told.
func TestDrainTakesWhoIsBehindLast(t *testing.T) {
	const clients = 1000
	l, tp := newOld(clients, 0)
	tp.ring.known = 1
	sessions := all(l)
	socks := make([]*narrow, clients)
	for i, s := range sessions {
		socks[i] = &narrow{room: 1 << 10}
		s.sock = socks[i]
		switch i % 10 {
		case 0, 1: // the first for good
			s.fallBehind()
		case 2:
			socks[i].room = 5
		}
	}
	caughtUp := false
	drainEvenly(t, l, 20*time.Second, func(gone float64) {
		stay, others := 0, 0
		for i, s := range sessions {
			switch {
			case s.closed:
			case i%10 == 0:
				stay++
			default:
				others++
			}
		}
		if stay < clients/10 && others > 0 {
			t.Fatalf("only %d of those who are behind are left, and %d others", stay, others)
		}
		if gone < 0.5 || caughtUp {
			return
		}
		caughtUp = true
		half := 0
		for i, s := range sessions {
			if i%10 == 1 || i%10 == 2 {
				if s.closed {
					t.Fatal("one is closed that is behind")
				}
				if i%10 == 2 && s.behind {
					half++
				}
				socks[i].room = 1 << 10
				s.Writable()
				if s.behind {
					t.Fatalf("%d has not caught up", i)
				}
			}
		}
		if half == 0 {
			t.Error("none was told in part")
		}
	})
	for i, s := range socks {
		if told := lastWords.Match(s.text); told != (i%10 != 0) || !told && len(s.text) > 0 {
			t.Fatalf("%d was told %q", i, s.text)
		}
	}
}

// Those who are closed for their age are some of those who are due in the same tick.
func TestDrainCountsWhoIsOld(t *testing.T) {
	const clients = 1000
	l, _ := newOld(clients, time.Second)
	l.drainFrom.Store(l.began.UnixNano())
	l.drainTo.Store(l.began.Add(10 * time.Second).UnixNano())
	l.Tick(l.began)
	l.Tick(l.began.Add(time.Second)) // about half are old, and a tenth is due
	old, others := l.stats.closes[aged].Load(), l.stats.closes[drained].Load()
	if old < clients/4 || others != 0 || l.sessions.n != clients-int(old) {
		t.Errorf("%d closed as max-age, %d as drain, %d are left", old, others, l.sessions.n)
	}
}

// closing is a socket that calls f when it is closed.
type closing struct {
	nowhere
	f func()
}

func (s *closing) Close() { s.f() }

// Who reads to the end of a stream finds it counted.
func TestClosesAreCountedFirst(t *testing.T) {
	l, _ := newOld(1, 0)
	s := all(l)[0]
	counted := uint64(0)
	s.sock = &closing{f: func() { counted = l.stats.closes[drained].Load() }}
	if l.drop(s, drained, nil); counted != 1 {
		t.Errorf("%d were counted when it was closed", counted)
	}
}

// A node that is told to stop says so at once, and yet takes clients until the balancers
// have seen it; then it takes none, and only then its streams end.
func TestDrainInOrder(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	cfg := worker.Default[Config]()
	cfg.NATS.URL, cfg.Admin.Addr, cfg.SSENode.Addr = u.server.URL(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 3*time.Second, time.Second
	n, err := New(cfg, embedded.TestLog(t))
	if err != nil {
		t.Fatal(err)
	}
	stop := embedded.TestRun(t, n.Run)
	until(t, "node is ready", func() bool { return n.ready() == nil })
	began := time.Now()
	go stop() // again, and waited for, when the test ends
	until(t, "it is not ready", func() bool { return n.ready() != nil })
	s, err := sseclient.Open(t.Context(), "http://"+n.Addr().String()+"/events?channel=a", sseclient.Options{})
	if err != nil && time.Since(began) < cfg.SSENode.DrainDelay {
		t.Fatalf("it takes no clients before the delay is over: %v", err)
	}
	if err != nil {
		return // this machine was too slow to connect in time
	}
	defer s.Close()
	for err == nil {
		_, err = s.NextWithin(wait)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if time.Since(began) < cfg.SSENode.DrainDelay {
		t.Error("a stream has ended before the delay was over")
	}
	if c, err := net.Dial("tcp", n.Addr().String()); err == nil {
		c.Close()
		t.Error("a stream has ended, and it takes new ones")
	}
}
