package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/go-redis/v9"

	"sluice/bridge"
	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/route"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// fleet is a bridge and three nodes in this process, each node behind a hop of
// its own to NATS that a test can cut.
type fleet struct {
	t      testing.TB
	client redis.UniversalClient
	nodes  []*ssenode.Node
	hops   []*embedded.Proxy
	pad    string // at the end of each message
}

// roamRoutes keep enough for clients that are away for as long as a server.
var roamRoutes, _ = route.Parse("roam:> history=50000/10m")

// newFleet starts it all. One NATS server is put behind hops.
func newFleet(t testing.TB, nats interface{ URL() string }, change func(*bridge.Config)) *fleet {
	t.Helper()
	f := &fleet{t: t}
	redisServer := embedded.TestRedis(t)
	var err error
	if f.client, err = redisconn.Open(redisServer.URL(), redisconn.Options{Worker: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.client.Close() })
	run := func(w interface{ Run(context.Context) error }) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() { cancel(); wg.Wait() })
	}
	for i := range 3 {
		c := worker.Default[ssenode.Config]()
		c.Admin.Addr, c.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		c.SSENode.Name = fmt.Sprint("n", i+1)
		c.SSENode.DrainDelay, c.SSENode.DrainTime = 0, 0
		c.SSENode.Linger = 200 * time.Millisecond // channels come and go
		c.SSENode.RingBytes = 8 << 10             // and are soon only in the stream
		c.SSENode.Heartbeat = time.Second
		c.NATS.URL = nats.URL()
		if server, one := nats.(interface{ Addr() string }); one {
			hop := embedded.TestProxy(t, server.Addr())
			f.hops = append(f.hops, hop)
			c.NATS.URL = "nats://" + hop.Addr()
		}
		c.Routes = *roamRoutes
		n, err := ssenode.New(c, embedded.TestLog(t))
		if err != nil {
			t.Fatal(err)
		}
		run(n)
		f.nodes = append(f.nodes, n)
	}
	c := worker.Default[bridge.Config]()
	c.Admin.Addr = "127.0.0.1:0"
	c.Redis.URL, c.NATS.URL = redisServer.URL(), nats.URL()
	c.Bridge.Pulse = 250 * time.Millisecond
	c.Routes = *roamRoutes
	if change != nil {
		change(&c)
	}
	b, err := bridge.New(c, embedded.TestLog(t))
	if err != nil {
		t.Fatal(err)
	}
	run(b)
	for _, n := range f.nodes {
		until(t, "a node is ready", func() bool {
			code, _ := fetch(t, "http://"+n.AdminAddr().String()+"/readyz")
			return code == 200
		})
	}
	return f
}

// addrs are where clients connect.
func (f *fleet) addrs() (all []string) {
	for _, n := range f.nodes {
		all = append(all, n.Addr().String())
	}
	return all
}

// roamer is a client that comes and goes, to any node, as a browser does.
type roamer struct {
	addrs []string // of nodes
	pad   string   // at the end of each message
	query string
	takes func(channel string) bool
	rng   *rand.Rand
	id    string
	// next is the number expected of each channel, safe what it was at the last
	// id: between the two a return may begin.
	next, safe map[string]int
	steps, ups int
	got        int // messages
	// has counts messages, each once; read by the publisher.
	has   atomic.Int64
	trace []string
	gaps  map[string]int
}

// visit connects once and reads until the deadline, or done.
func (r *roamer) visit(ctx context.Context, done func() bool) error {
	addr := r.addrs[r.rng.IntN(len(r.addrs))]
	st, err := sseclient.Open(ctx, "http://"+addr+"/events?"+r.query, sseclient.Options{LastEventID: r.id})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("connect: %w", err)
	}
	defer st.Close()
	r.ups++
	r.trace = append([]string(nil), r.trace[max(0, len(r.trace)-8):]...) // it may live for long
	r.trace = append(r.trace, fmt.Sprintf("%s visit %s %s", time.Now().Format("05.000"), addr, r.id))
	back := map[string]bool{} // channels heard of since
	repeats := false          // told that more than that may come again
	for !done() {
		ev, err := st.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return nil // the node closed it, for a reason of its own
		}
		r.steps++
		switch {
		case ev.Name == "gap":
			var g struct{ Reason string }
			if err := json.Unmarshal([]byte(ev.Data), &g); err != nil {
				return err
			}
			r.gaps[g.Reason]++
			if g.Reason != "upstream" {
				return fmt.Errorf("gap %s", ev.Data)
			}
			// Everything since a pulse before its position comes again.
			repeats = true
			clear(back)
			clear(r.safe)
		case ev.Name == "" && ev.HasData:
			name, number, _ := strings.Cut(strings.TrimSuffix(ev.Data, r.pad), " ")
			n, err := strconv.Atoi(number)
			if err != nil || !r.takes(name) {
				return fmt.Errorf("unexpected %.60q", ev.Data)
			}
			next, known := r.next[name]
			switch {
			case !known && r.id == "":
			case !back[name] && n <= next && (n >= r.safe[name] || repeats):
			case n == next:
			default:
				return fmt.Errorf("%.60s with id %q: expected %d (%d was safe, first since the return: %v, position %s) %q", ev.Data, ev.ID, next, r.safe[name], !back[name], r.id, r.trace[max(0, len(r.trace)-8):])
			}
			back[name] = true
			r.has.Add(int64(max(0, n+1-next)))
			r.next[name] = n + 1
			r.got++
		}
		if ev.HasID {
			r.trace = append(r.trace, fmt.Sprintf("%s %s %.60q %q", time.Now().Format("05.000"), ev.ID, ev.Data, ev.Comment))
			if a, err := wire.ParseID(ev.ID); err != nil {
				return err
			} else if b, err := wire.ParseID(r.id); err == nil && a.Epoch == b.Epoch && a.Seq < b.Seq && !repeats {
				return fmt.Errorf("position goes back from %s with %+v %q", r.id, ev, r.trace[max(0, len(r.trace)-8):])
			}
			r.id = ev.ID
			// What was given without an id before this visit may still come again.
			for name := range back {
				r.safe[name] = r.next[name]
			}
		}
	}
	return nil
}

// roam lets clients come and go while numbered messages are published on
// channels that appear and disappear, with fault going on beside, and checks
// that every client sees every message of its channels, in order.
func (f *fleet) roam(clients int, load time.Duration, fault func(ctx context.Context)) {
	t := f.t
	t.Helper()
	seed := testSeed(t)
	const channels = 24
	name := func(i int) string { return fmt.Sprintf("roam:%d:%d", i%3, i) }
	var sent [channels]atomic.Int64
	rng := rand.New(rand.NewPCG(seed, 0))
	var all []*roamer
	for i := range clients {
		r := &roamer{addrs: f.addrs(), pad: f.pad, rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), next: map[string]int{}, safe: map[string]int{}, gaps: map[string]int{}}
		q := url.Values{}
		var mine []string
		for range 1 + rng.IntN(5) {
			c := name(rng.IntN(channels))
			mine = append(mine, c)
			q.Add("channel", c)
		}
		prefix := "none"
		if rng.IntN(3) == 0 {
			group := rng.IntN(3)
			prefix = fmt.Sprintf("roam:%d:", group)
			q.Add("pattern", prefix+"*")
		}
		r.query = q.Encode()
		r.takes = func(c string) bool { return strings.HasPrefix(c, prefix) || slices.Contains(mine, c) }
		all = append(all, r)
	}
	// All have a position before the first message, so that they have to see
	// each one.
	var first sync.WaitGroup
	for _, r := range all {
		first.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			if err := r.visit(ctx, func() bool { return r.id != "" }); err != nil || r.id == "" {
				t.Errorf("first visit: %v, position %q", err, r.id)
			}
			for i := range channels {
				if r.takes(name(i)) {
					r.next[name(i)], r.safe[name(i)] = 0, 0
				}
			}
		})
	}
	first.Wait()
	if t.Failed() {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), load)
	defer stop()
	// Under the race detector everything is twenty times as slow: clients that are
	// far behind are given time, or after a while none ever catches up.
	behind := func() bool {
		for _, r := range all {
			all := -r.has.Load()
			for i := range channels {
				if r.takes(name(i)) {
					all += sent[i].Load()
				}
			}
			if all > 8000 {
				return true
			}
		}
		return false
	}
	var publishing, faults, roaming sync.WaitGroup
	publishing.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 1<<32))
		for ctx.Err() == nil {
			if behind() {
				pause(ctx, 10*time.Millisecond)
				continue
			}
			pipe := f.client.Pipeline()
			for range 1 + rng.IntN(20) {
				// Loud and quiet ones: the higher the number the rarer.
				i := min(rng.IntN(channels), rng.IntN(channels), rng.IntN(channels))
				n := sent[i].Add(1) - 1
				pipe.Publish(context.Background(), name(i), fmt.Sprintf("%s %d%s", name(i), n, f.pad))
			}
			if _, err := pipe.Exec(context.Background()); err != nil {
				t.Error(err)
				return
			}
			pause(ctx, time.Duration(rng.IntN(12))*time.Millisecond)
		}
	})
	if fault != nil {
		faults.Go(func() { fault(ctx) })
	}
	var failed atomic.Bool
	for k, r := range all {
		roaming.Go(func() {
			fail := func(err error) {
				failed.Store(true)
				stop()
				t.Errorf("client %d (%s): %v", k, r.query, err)
			}
			for ctx.Err() == nil && !failed.Load() {
				visit, cancel := context.WithTimeout(ctx, time.Duration(rand.N(400)+1)*time.Millisecond)
				err := r.visit(visit, func() bool { return false })
				cancel()
				if err != nil {
					fail(err)
					return
				}
				if r.rng.IntN(4) == 0 {
					pause(ctx, time.Duration(r.rng.IntN(600))*time.Millisecond)
				}
			}
			publishing.Wait()
			faults.Wait()
			complete := func() bool {
				for i := range channels {
					if r.takes(name(i)) && int64(r.next[name(i)]) < sent[i].Load() {
						return false
					}
				}
				return true
			}
			// After a fault there may be much to catch up with: what counts is that
			// it goes on.
			end, cancel := context.WithCancel(context.Background())
			defer cancel()
			stuck := time.AfterFunc(wait, cancel)
			defer stuck.Stop()
			got := 0
			done := func() bool {
				if r.got != got {
					got = r.got
					stuck.Reset(wait)
				}
				return complete()
			}
			for !complete() && end.Err() == nil && !failed.Load() {
				if err := r.visit(end, done); err != nil {
					fail(err)
					return
				}
			}
			if !complete() && !failed.Load() {
				var missing []string
				for i := range channels {
					if r.takes(name(i)) && int64(r.next[name(i)]) < sent[i].Load() {
						missing = append(missing, fmt.Sprintf("%s %d of %d", name(i), r.next[name(i)], sent[i].Load()))
					}
				}
				fail(fmt.Errorf("nothing comes for %s: %v %q", wait, missing, r.trace[max(0, len(r.trace)-8):]))
			}
		})
	}
	roaming.Wait()
	steps, ups, messages := 0, 0, int64(0)
	gaps := map[string]int{}
	for _, r := range all {
		steps, ups = steps+r.steps, ups+r.ups
		for reason, n := range r.gaps {
			gaps[reason] += n
		}
	}
	for i := range sent {
		messages += sent[i].Load()
	}
	t.Logf("%d messages, %d events to %d clients in %d visits, gaps %v", messages, steps, clients, ups, gaps)
}

// pause is the time between two faults, or two bursts of a load.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// long is how long a load lasts: seconds in CI, longer in `task soak`.
func long(short time.Duration) time.Duration {
	if text := os.Getenv("SLUICE_SOAK"); text != "" {
		if d, err := time.ParseDuration(text); err == nil {
			return d
		}
	}
	return short
}

func startNATS(t testing.TB, o embedded.NATSOptions) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Clients come and go over three nodes, under load.
func TestRoaming(t *testing.T) {
	f := newFleet(t, startNATS(t, embedded.NATSOptions{}), nil)
	f.roam(40, long(5*time.Second), nil)
}

// The same while the nodes' connections to NATS are cut, or hang for a while.
func TestRoamingWithCutConnections(t *testing.T) {
	f := newFleet(t, startNATS(t, embedded.NATSOptions{}), nil)
	f.roam(30, long(5*time.Second), func(ctx context.Context) {
		rng := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			hop := f.hops[rng.IntN(len(f.hops))]
			if rng.IntN(2) == 0 {
				hop.Hang() // what comes meanwhile is lost
				pause(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
				hop.Cut()
			} else {
				hop.Cut()
			}
			pause(ctx, time.Duration(200+rng.IntN(800))*time.Millisecond)
		}
	})
}

// The same while nodes take nothing from NATS for a while, so that the server
// gives them up as slow consumers.
func TestRoamingWithSlowConsumers(t *testing.T) {
	nats := startNATS(t, embedded.NATSOptions{Modify: func(o *server.Options) { o.MaxPending = 3 << 20 }})
	f := newFleet(t, nats, nil)
	f.pad = strings.Repeat("x", 4<<10)
	f.roam(20, long(5*time.Second), func(ctx context.Context) {
		rng := rand.New(rand.NewPCG(3, 4))
		for ctx.Err() == nil {
			hop := f.hops[rng.IntN(len(f.hops))]
			hop.Stall.Store(true)
			pause(ctx, time.Duration(500+rng.IntN(2000))*time.Millisecond)
			hop.Stall.Store(false)
			pause(ctx, time.Duration(500+rng.IntN(1000))*time.Millisecond)
		}
	})
	if n := nats.Server().NumSlowConsumers(); n == 0 {
		t.Error("no node was a slow consumer")
	} else {
		t.Logf("%d slow consumers", n)
	}
}

// The same while a NATS server that keeps the stream in files is restarted.
func TestRoamingWithNATSRestarts(t *testing.T) {
	nats := startNATS(t, embedded.NATSOptions{StoreDir: t.TempDir()})
	f := newFleet(t, nats, func(c *bridge.Config) { c.Bridge.Storage = "file" })
	f.roam(30, long(8*time.Second), func(ctx context.Context) {
		for ctx.Err() == nil {
			// Under the race detector clients need that long to catch up.
			pause(ctx, 3*time.Second)
			if err := nats.Stop(); err != nil {
				t.Error(err)
			}
			pause(ctx, 200*time.Millisecond)
			if err := nats.Restart(); err != nil {
				t.Error(err)
			}
		}
	})
}

// The same with three NATS servers that each keep every event: the stream's
// leader is killed, and a follower stalls and comes back behind the others.
func TestRoamingInCluster(t *testing.T) {
	cluster := embedded.TestNATSCluster(t, 3)
	f := newFleet(t, cluster, func(c *bridge.Config) { c.Bridge.Replicas = 3 })
	roles := func(ctx context.Context) (*embedded.Process, []*embedded.Process) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		leader, followers, err := cluster.Roles(ctx, "SLUICE")
		if err != nil {
			t.Error(err)
		}
		return leader, followers
	}
	kills, stalls := 0, 0
	f.roam(30, long(12*time.Second), func(ctx context.Context) {
		for ok := true; ok && ctx.Err() == nil; {
			leader, followers := roles(context.Background())
			if ok = leader != nil; !ok {
				return
			}
			if err := followers[0].Signal(syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			pause(ctx, time.Second)
			if err := followers[0].Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
			stalls++
			pause(ctx, time.Second)
			if err := leader.Kill(); err != nil {
				t.Error(err)
			}
			kills++
			pause(ctx, 2*time.Second)
			if err := leader.Restart(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%d leaders killed, %d followers stalled", kills, stalls)
}
