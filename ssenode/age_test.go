package ssenode

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/worker"
	"sluice/ssenode/engine"
)

// newOld is a loop with so many clients that came when it began and have a position, one
// that is older than the newest.
func newOld(clients int, maxAge time.Duration) (*loop, *topic) {
	l, tp, _ := newSweep(clients)
	list := l.sessions.lists[0]
	l.sessions = newTurns(unspoken)
	l.hub, l.clients, l.stats.log = &hub{}, newClients(), slog.New(slog.DiscardHandler)
	l.began, l.seed, l.maxAge, l.retry = time.Now(), maphash.MakeSeed(), maxAge, time.Second
	l.epoch, l.verified = "e1", 7
	for i, s := range list {
		s.given, s.clientID = 1, strconv.Itoa(i)
		l.sessions.add(s)
	}
	return l, tp
}

// all are the loop's sessions.
func all(l *loop) []*session { return slices.Concat(l.sessions.lists...) }

// Ten thousand clients who came at once do not leave at once: each has a time of its
// own, a fifth off the limit at most, and no tick closes many.
func TestMaxAgeSpreads(t *testing.T) {
	t.Parallel()
	for _, maxAge := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		const clients = 10_000
		l, _ := newOld(clients, maxAge)
		late := maxAge*6/5 + maxAge/10 + engine.TickEvery
		ticks, most := 0, 0
		for age := time.Duration(0); age <= late; age += engine.TickEvery {
			l.ticks++
			l.retire(l.began.Add(age))
			n := len(l.leaving)
			if n > 0 {
				ticks++
			}
			if most = max(most, n); n > 0 && age < maxAge*4/5 {
				t.Fatalf("%v: %d closed after %v", maxAge, n, age)
			}
			l.bury()
		}
		if l.sessions.n != 0 || l.stats.closes[aged].Load() != clients {
			t.Errorf("%v: %d are left after %v, %d are counted", maxAge, l.sessions.n, late, l.stats.closes[aged].Load())
		}
		// Two fifths of the limit, in ticks, are there for them; by chance a tick has a few more.
		share := clients * engine.TickEvery / (maxAge * 2 / 5)
		if most > int(share)*3/2+30 {
			t.Errorf("%v: %d closed in one of %d ticks, an even share is %d", maxAge, most, ticks, share)
		}
	}
}

// A stream for which throttle= holds something back, as of a busy channel it nearly always
// does, is closed a fifth of the limit later; at once when nothing is held back.
func TestMaxAgeWaitsForThrottle(t *testing.T) {
	const clients, maxAge = 1000, 10 * time.Second
	for _, held := range []int{0, 1} {
		l, tp := newOld(clients, maxAge)
		tp.on(l).owed = held
		sessions := all(l)
		for i, s := range sessions {
			s.owing = i%2 == 1
		}
		for age := time.Duration(0); l.sessions.n > 0 && age < 2*maxAge; age += engine.TickEvery {
			l.ticks++
			l.retire(l.began.Add(age))
			for _, s := range l.leaving {
				first := l.lifetime(s)
				if s.owing && held > 0 {
					first += maxAge / 5
				}
				if last := first + maxAge/10 + engine.TickEvery; age < first || age > last {
					t.Fatalf("held back %d, owing %v: closed after %v, want %v to %v", held, s.owing, age, first, last)
				}
			}
			l.bury()
		}
		if l.sessions.n > 0 {
			t.Errorf("%d are left", l.sessions.n)
		}
	}
}

// The last words have the newest position, also of a stream that has had but its first
// one, and nothing else: it does not fall out of a history that others fill.
func TestLastWordsHaveThePosition(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, name string) {
		for _, how := range []string{"max-age", "drain"} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				u := newUpstream(t)
				cfg := worker.Default[Config]()
				cfg.NATS.URL = u.server.URL()
				cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
				cfg.SSENode.Engine, cfg.SSENode.MaxAge, cfg.SSENode.Heartbeat = name, time.Hour, 0
				cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, 0
				n, err := New(cfg, embedded.TestLog(t))
				if err != nil {
					t.Fatal(err)
				}
				stop := embedded.TestRun(t, n.Run)
				until(t, "node is ready", func() bool { return n.ready() == nil })
				s := open(t, n, "/events?channel=quiet")
				for s.LastEventID() == "" {
					if _, err := s.NextWithin(wait); err != nil {
						t.Fatal(err)
					}
				}
				first := s.LastEventID()
				seq := u.publish("another", "x")
				until(t, "a pulse has come", func() bool {
					come := true
					onLoops(n, func(l *loop) { come = come && l.verified > seq })
					return come
				})
				if how == "drain" {
					go stop()
				} else {
					onLoops(n, func(l *loop) { l.maxAge = time.Second })
				}
				var last sseclient.Event
				for {
					ev, err := s.NextWithin(wait)
					if err != nil {
						break
					}
					last = ev
				}
				if !last.HasID || seqOf(t, last.ID) <= seq {
					t.Errorf("first position %s, %d was published, last words %+v", first, seq, last)
				}
			})
		}
	})
}

// Old streams end, told when to come back and from where, and who does so misses
// nothing and gets nothing twice. A poll is left alone.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, name string) {
		const maxAge = time.Second
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.MaxAge = name, maxAge
			c.SSENode.Heartbeat = 0 // nobody depends on heartbeats
		})
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		var clients sync.WaitGroup
		const all, lives = 12, 2
		for range all {
			clients.Go(func() {
				id, next := "", -1
				for life := range lives {
					began := time.Now()
					s, err := sseclient.Open(ctx, base(n)+"/events?channel=a", sseclient.Options{LastEventID: id})
					if err != nil {
						t.Error(err)
						return
					}
					var last sseclient.Event
					retry := false
					for {
						ev, err := s.Next(ctx)
						if err != nil {
							break
						}
						if ev.HasRetry {
							retry = true
						} else if ev.HasData {
							retry = false
						}
						if last = ev; ev.Name != "" || !ev.HasData {
							continue
						}
						i, err := strconv.Atoi(ev.Data)
						if err != nil || next >= 0 && i != next {
							t.Errorf("life %d: got %q, want %d", life, ev.Data, next)
						}
						next = i + 1
					}
					// It is counted in ticks when a client came.
					if age := time.Since(began); age < maxAge*4/5-engine.TickEvery {
						t.Errorf("closed after %v", age)
					}
					if !retry || !last.HasID && !last.HasRetry {
						t.Errorf("last words %+v, retry %v", last, retry)
					}
					id = s.LastEventID()
					s.Close()
				}
			})
		}
		began := time.Now()
		poll := make(chan struct{})
		go func() {
			defer close(poll)
			if resp, body := get(t, "GET", base(n)+"/poll?channel=quiet&timeout=2&lastEventId="+idOf(1)); resp.StatusCode != 200 || time.Since(began) < 2*time.Second {
				t.Errorf("poll: %d %s after %v", resp.StatusCode, body, time.Since(began))
			}
		}()
		done := make(chan struct{})
		go func() { clients.Wait(); close(done) }()
		for i := 0; ; i++ {
			select {
			case <-done:
				<-poll
				if c, o := n.stats.closes[aged].Load(), n.stats.closes[clientGone].Load(); c != all*lives || o != 0 {
					t.Errorf("closed as max-age %d, client-gone %d: want %d and 0", c, o, all*lives)
				}
				return
			case <-time.After(20 * time.Millisecond):
				u.publish("a", fmt.Sprint(i))
			}
		}
	})
}

// A client that is behind is left alone until it has caught up.
func TestMaxAgeWaitsForWhoIsBehind(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, name string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.SSENode.Engine, c.SSENode.MaxAge = name, time.Hour })
		slow := unread(t, n, "/events?channel=loud", 64<<10)
		_ = slow.SetReadDeadline(time.Now().Add(wait))
		r := sseclient.NewReader(afterHead(t, slow))
		for { // from then on nothing comes again
			if ev, err := r.Next(); err != nil {
				t.Fatal(err)
			} else if ev.HasID {
				break
			}
		}
		pad := strings.Repeat("x", 10<<10)
		const messages = 200 // what the kernel takes, and more
		for i := range messages {
			u.publish("loud", fmt.Sprint(i, " ", pad))
		}
		until(t, "it is behind", func() bool { return n.late() == 1 })
		onLoops(n, func(l *loop) { l.maxAge = time.Second })
		// Another one comes and is closed meanwhile.
		s := open(t, n, "/events?channel=quiet")
		for _, err := s.NextWithin(wait); err == nil; _, err = s.NextWithin(wait) {
		}
		if c := n.stats.closes[aged].Load(); c != 1 || n.stats.open() != 1 {
			t.Fatalf("%d closed, %d open: want 1 and 1", c, n.stats.open())
		}
		_ = slow.SetReadDeadline(time.Now().Add(wait))
		_ = slow.(*net.TCPConn).SetReadBuffer(1 << 20)
		expect := 0
		for {
			ev, err := r.Next()
			if err != nil {
				break
			}
			if ev.Name == "" && ev.HasData {
				if ev.Data != fmt.Sprint(expect, " ", pad) {
					t.Fatalf("got %s, want %d", short(ev.Data), expect)
				}
				expect++
			}
		}
		if c := n.stats.closes[aged].Load(); expect != messages || c != 2 {
			t.Errorf("it got %d of %d, %d closed", expect, messages, c)
		}
	})
}
