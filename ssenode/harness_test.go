package ssenode

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"sluice/shared/channel"
	"sluice/shared/embedded"
	"sluice/shared/route"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

func TestMain(m *testing.M) {
	embedded.TestsAtOnce(atOnce, 1)
	goleak.VerifyTestMain(m,
		// fasthttp's clock runs as long as the process, and its worker pool looks
		// every ten seconds whether it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// wait bounds every wait of these tests; only a hang reaches it.
const wait = 30 * time.Second

// engines are all that this system has.
var engines = []string{"auto", "portable"}

// eachEngine runs the test on all engines at once.
func eachEngine(t *testing.T, f func(t *testing.T, engine string)) {
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, name)
		})
	}
}

// upstream is what the bridge is for a node: a stream with RePublish, pulses,
// and whatever the test publishes.
type upstream struct {
	t      testing.TB
	server *embedded.NATS
	nc     *nats.Conn
	js     jetstream.JetStream
	names  wire.Stream

	mu     sync.Mutex // guards the following fields; held while storing
	epoch  string
	digest wire.Digest
	mute   bool // no pulses
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	server, err := embedded.StartNATS(embedded.NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	u := upstreamAt(t, server.URL(), pulseEvery)
	u.server = server
	return u
}

// upstreamAt is an upstream on a server that the test has started.
func upstreamAt(t testing.TB, url string, pulseEvery time.Duration) *upstream {
	t.Helper()
	u := &upstream{t: t, names: wire.Stream{Name: "SLUICE", Prefix: "sluice"}}
	var err error
	if u.nc, err = nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.nc.Close)
	if u.js, err = jetstream.New(u.nc); err != nil {
		t.Fatal(err)
	}
	u.createStream()
	u.pulse("e1")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { u.beat(done, pulseEvery) })
	t.Cleanup(func() { close(done); wg.Wait() })
	return u
}

// pulseEvery is the time between two pulses.
const pulseEvery = 50 * time.Millisecond

func (u *upstream) beat(done <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.mu.Lock()
			if !u.mute {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				// The server may be away just now.
				_, _ = u.js.Publish(ctx, u.names.Log()+wire.PulseToken, u.newPulse().Encode())
				cancel()
			}
			u.mu.Unlock()
		case <-done:
			return
		}
	}
}

func (u *upstream) newPulse() wire.Pulse {
	var routes route.Table
	return wire.Pulse{Epoch: u.epoch, Term: 1, Time: time.Now(), Routes: routes.Hash(), Digest: u.digest.Take()}
}

// pulseOnce writes a single pulse.
func (u *upstream) pulseOnce() {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.put(wire.PulseToken, u.newPulse().Encode())
}

// quiet stops the pulses.
func (u *upstream) quiet(on bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mute = on
}

func (u *upstream) createStream() {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := u.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: u.names.Name, Subjects: []string{u.names.Log() + ">"}, Storage: jetstream.MemoryStorage,
		RePublish:   &jetstream.RePublish{Source: u.names.Log() + ">", Destination: u.names.Live() + ">"},
		AllowDirect: true, MaxMsgsPerSubject: 1000,
	})
	if err != nil {
		u.t.Fatal(err)
	}
}

// pulse writes a pulse, the first of an epoch if that is another one.
func (u *upstream) pulse(epoch string) {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.epoch, u.mute = epoch, false
	u.put(wire.PulseToken, u.newPulse().Encode())
}

// store puts a message into the stream; the server republishes it.
func (u *upstream) store(subject string, data []byte) uint64 {
	u.t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	seq := u.put(subject, data)
	u.digest.Add(subject, seq)
	return seq
}

func (u *upstream) put(subject string, data []byte) uint64 {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ack, err := u.js.Publish(ctx, u.names.Log()+subject, data)
	if err != nil {
		u.t.Fatal(err)
	}
	return ack.Sequence
}

// publish is what the bridge does with a Redis message that has history.
func (u *upstream) publish(name, payload string) uint64 {
	u.t.Helper()
	return u.store(subject(u.t, name), []byte(payload))
}

// live is what the bridge does under history=off.
func (u *upstream) live(name, payload string) {
	u.t.Helper()
	if err := u.nc.Publish(u.names.Live()+subject(u.t, name), []byte(payload)); err != nil {
		u.t.Fatal(err)
	}
}

func subject(t testing.TB, name string) string {
	t.Helper()
	s, err := channel.Subject(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// startNode runs a node on the upstream until the test ends.
func startNode(t testing.TB, u *upstream, change func(*Config)) *Node {
	t.Helper()
	n := startNodeUnready(t, u, change)
	until(t, "node is ready", func() bool { return n.ready() == nil })
	return n
}

func startNodeUnready(t testing.TB, u *upstream, change func(*Config)) *Node {
	t.Helper()
	cfg := worker.Default[Config]()
	cfg.NATS.URL = u.server.URL()
	cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.SSENode.Name = "n1"
	cfg.SSENode.Linger = 300 * time.Millisecond
	cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, 0
	// However slow the machine is, nobody is stuck, and nothing too old, by chance.
	cfg.SSENode.StuckAfter, cfg.SSENode.RingAge = 20*wait, 20*wait
	if change != nil {
		change(&cfg)
	}
	return runNode(t, cfg, embedded.TestLog(t))
}

func runNode(t testing.TB, cfg Config, log *slog.Logger) *Node {
	t.Helper()
	n, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		until(t, "nothing is counted any more", func() bool { return n.gate.Open() == 0 })
	})
	embedded.TestRun(t, n.Run)
	return n
}

func base(n *Node) string { return "http://" + n.Addr().String() }

// open connects and reads up to the connected event.
func open(t testing.TB, n *Node, path string) *sseclient.Stream {
	t.Helper()
	return resume(t, n, path, "")
}

// resume is open for a client that comes back with an id.
func resume(t testing.TB, n *Node, path, id string) *sseclient.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s, err := sseclient.Open(ctx, base(n)+path, sseclient.Options{LastEventID: id})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	t.Cleanup(s.Close)
	if ev := next(t, s); ev.Name != "connected" {
		t.Fatalf("%s: first event is %+v, want connected", path, ev)
	}
	return s
}

// settle waits until a pulse was checked since the last subscription: from then
// on events have their ids.
func settle(t testing.TB, n *Node) {
	t.Helper()
	until(t, "all is settled", func() bool {
		n.hub.mu.RLock()
		defer n.hub.mu.RUnlock()
		for _, tp := range n.hub.topics {
			if tp.settled.Load() == 0 {
				return false
			}
		}
		return len(n.hub.topics) > 0
	})
}

// wantGap checks that the next event is a gap and returns what it tells.
func wantGap(t testing.TB, s *sseclient.Stream, reason string) gapEvent {
	t.Helper()
	ev := next(t, s)
	var g gapEvent
	if err := json.Unmarshal([]byte(ev.Data), &g); ev.Name != "gap" || err != nil || g.Reason != reason {
		t.Fatalf("got event %q with data %s, want a gap with %s", ev.Name, short(ev.Data), reason)
	}
	return g
}

// next returns the next event that a page would get.
func next(t testing.TB, s *sseclient.Stream) sseclient.Event {
	t.Helper()
	ev, err := s.NextData(wait)
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return ev
}

// want checks the next event.
func want(t testing.TB, s *sseclient.Stream, name, data string) sseclient.Event {
	t.Helper()
	ev := next(t, s)
	if ev.Name != name || ev.Data != data {
		t.Fatalf("got event %q with data %s, want %q with %s", ev.Name, short(ev.Data), name, short(data))
	}
	return ev
}

func short(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	b, _ := json.Marshal(s)
	return string(b)
}

// stop ends the upstream's NATS server, without any pulse until it is back.
func (u *upstream) stop() {
	u.t.Helper()
	u.quiet(true)
	if err := u.server.Stop(); err != nil {
		u.t.Fatal(err)
	}
}

// restart starts it again, with an empty stream of which no node has heard yet.
func (u *upstream) restart(nodes ...*Node) {
	u.t.Helper()
	if err := u.server.Restart(); err != nil {
		u.t.Fatal(err)
	}
	until(u.t, "the test is connected again", u.nc.IsConnected)
	for _, n := range nodes {
		until(u.t, "the node is connected again", n.nc.IsConnected)
	}
	u.createStream()
}

// until waits for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, wait, f)
}

// onLoops runs f on each of the node's loops, one after the other, and waits.
func onLoops(n *Node, f func(*loop)) {
	for _, l := range n.loops {
		done := make(chan struct{})
		l.ask(func() { f(l); close(done) })
		<-done
	}
}

func channelQuery(names ...string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString("channel=" + url.QueryEscape(name))
	}
	return b.String()
}
