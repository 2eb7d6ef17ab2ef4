package ssenode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/channel"
	"sluice/shared/embedded"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
)

// A node with very many clients and no sockets: everything but those is what a
// node runs, with a NATS server of its own process and a stream. It belongs to "A
// million clients on paper" in deploy/README.md, and runs once each
// (-benchtime 1x). SLUICE_BENCH_CLIENTS says how many clients,
// SLUICE_BENCH_PULSE how often a pulse comes.

// clientsOf is how many clients there are, 100,000 if it is not said.
func clientsOf(b *testing.B) int {
	b.Helper()
	text := os.Getenv("SLUICE_BENCH_CLIENTS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		b.Fatalf("SLUICE_BENCH_CLIENTS=%q: want a number of at least 1000", text)
	}
	return n
}

// pulsesOf is the time between two pulses, the default of BRIDGE_PULSE if it is not
// said. A bridge sends them earlier when much is written.
func pulsesOf(b *testing.B) time.Duration {
	b.Helper()
	text := os.Getenv("SLUICE_BENCH_PULSE")
	if text == "" {
		return 500 * time.Millisecond
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		b.Fatalf("SLUICE_BENCH_PULSE=%q: want a time as 10ms", text)
	}
	return d
}

const (
	// paperWait bounds every wait; only a hang reaches it.
	paperWait = 5 * time.Minute
	// paperData is the size of a message.
	paperData = 200
)

// paperEngine drives loops as the real ones do, on sockets that take everything.
// What it lacks of an engine is for connections, of which there are none.
type paperEngine struct {
	engine.Engine
	loops []engine.Loop
}

func newPaperEngine() *paperEngine {
	e := &paperEngine{}
	for range runtime.GOMAXPROCS(0) {
		e.loops = append(e.loops, &paperLoop{wake: make(chan struct{}, 1), quit: make(chan struct{}), all: make(chan struct{}, 1)})
	}
	return e
}

func (e *paperEngine) Name() string         { return "paper" }
func (e *paperEngine) Loops() []engine.Loop { return e.loops }
func (e *paperEngine) KeepsConn() bool      { return false }

// paperLoop is also the socket of all its sessions.
type paperLoop struct {
	wake, quit chan struct{}
	left       int           // messages until all have come; the loop's
	all        chan struct{} // told when they have
}

func (l *paperLoop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *paperLoop) Stop()                                 { close(l.quit) }
func (l *paperLoop) Add(engine.Socket, engine.Owner) error { return nil }
func (l *paperLoop) Close()                                {}

func (l *paperLoop) Run(h engine.Handler) {
	tick := time.NewTicker(engine.TickEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
			h.Woken()
		case now := <-tick.C:
			h.Woken()
			h.Tick(now)
		case <-l.quit:
			return
		}
	}
}

// Write counts the messages of the benchmark, which alone are so long.
func (l *paperLoop) Write(p []byte) (int, error) {
	if n := len(p) / paperData; n > 0 && l.left > 0 {
		if l.left -= n; l.left <= 0 {
			l.all <- struct{}{}
		}
	}
	return len(p), nil
}

// paper is a node without sockets, and its clients.
type paper struct {
	b       *testing.B
	n       *Node
	u       *upstream
	server  *embedded.Process
	proxy   *embedded.Proxy
	clients []*session
}

func newPaper(b *testing.B, clients int) *paper {
	embedded.NeedLinux(b, "reads the NATS server's memory from /proc")
	p := &paper{b: b, server: embedded.TestNATSProcess(b, embedded.NATSProcessOptions{}), clients: make([]*session, 0, clients)}
	p.u = upstreamAt(b, p.server.URL(), pulsesOf(b))
	p.proxy = embedded.TestProxy(b, p.server.Addr())
	cfg := worker.Default[Config]()
	cfg.NATS.URL = "nats://" + p.proxy.Addr()
	cfg.SSENode.Name, cfg.SSENode.Linger = "n1", time.Hour
	log := embedded.TestLog(b)
	p.n = &Node{cfg: cfg, log: log, stats: newStats(log), done: make(chan struct{}), engine: newPaperEngine()}
	var err error
	if p.n.guard, err = auth.New(&p.n.cfg.SSENode.Settings, log); err != nil {
		b.Fatal(err)
	}
	if err := p.n.connect(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, l := range p.n.loops {
		wg.Go(func() { p.n.engine.Loops()[i].Run(l) })
	}
	wg.Go(func() { p.n.dispatch.run(ctx) })
	wg.Go(func() { p.n.dispatch.learner.run(ctx) })
	for range fetchers {
		wg.Go(func() { p.n.fetcher.run(ctx) })
	}
	b.Cleanup(func() {
		for _, l := range p.n.loops {
			l.end()
		}
		p.n.nc.Close()
		close(p.n.done)
		cancel()
		for _, l := range p.n.loops {
			l.engine.Stop()
		}
		wg.Wait()
	})
	p.until("the stream is known", func() bool { return p.n.epoch.Load() != nil })
	return p
}

func (p *paper) until(what string, f func() bool) {
	p.b.Helper()
	embedded.Eventually(p.b, what, paperWait, f)
}

// onLoops runs f on each loop's goroutine, and waits.
func (p *paper) onLoops(f func(l *loop)) {
	var wg sync.WaitGroup
	for _, l := range p.n.loops {
		wg.Add(1)
		l.ask(func() { defer wg.Done(); f(l) })
	}
	wg.Wait()
}

// slowest runs f on all loops and tells the longest time.
func (p *paper) slowest(f func(l *loop)) time.Duration {
	var longest atomic.Int64
	p.onLoops(func(l *loop) {
		begun := time.Now()
		f(l)
		took := int64(time.Since(begun))
		for old := longest.Load(); took > old && !longest.CompareAndSwap(old, took); old = longest.Load() {
		}
	})
	return time.Duration(longest.Load())
}

// dispatcher runs f on the dispatcher's goroutine and tells how long that took:
// so long no message is looked at.
func (p *paper) dispatcher(f func(d *dispatcher)) (took time.Duration) {
	d := p.n.dispatch
	d.call(context.Background(), func() {
		begun := time.Now()
		f(d)
		took = time.Since(begun)
	})
	return took
}

// current waits until all clients have everything and get ids with it.
func (p *paper) current() {
	p.b.Helper()
	p.until("all are current", func() bool {
		checking := false
		p.dispatcher(func(d *dispatcher) { checking = d.checking })
		if checking {
			return false
		}
		var left atomic.Int64
		p.onLoops(func(l *loop) { left.Add(int64(len(l.behind) + len(l.fresh) + len(l.early))) })
		return left.Load() == 0
	})
}

// expect tells after which deliveries to the loops the returned function returns.
func (p *paper) expect(byLoop []int) (wait func()) {
	p.onLoops(func(l *loop) { l.engine.(*paperLoop).left = byLoop[l.index] })
	return func() {
		limit := time.NewTimer(paperWait)
		defer limit.Stop()
		for i, n := range byLoop {
			if n == 0 {
				continue
			}
			select {
			case <-p.n.loops[i].engine.(*paperLoop).all:
			case <-limit.C:
				p.b.Fatal("messages do not come")
			}
		}
	}
}

// publishAll stores a message for each of the channels, many at a time.
func (p *paper) publishAll(names []string) {
	p.b.Helper()
	js, err := jetstream.New(p.u.nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		p.b.Fatal(err)
	}
	data := []byte(strings.Repeat("x", paperData))
	for _, name := range names {
		if _, err := js.PublishAsync(p.u.names.Log()+subject(p.b, name), data, jetstream.WithStallWait(paperWait)); err != nil {
			p.b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(paperWait):
		p.b.Fatal("messages are not stored")
	}
}

func (p *paper) nats() (rss int64, cpu time.Duration) {
	rss, cpu, err := embedded.Usage(p.server.Pid())
	if err != nil {
		p.b.Fatal(err)
	}
	return rss, cpu
}

// inUse is what is in use, and how long the collector needed to find that out.
func inUse() (bytes uint64, took time.Duration) {
	runtime.GC()
	begun := time.Now()
	runtime.GC()
	took = time.Since(begun)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, took
}

// watching is who watches what.
type watching struct {
	name    string
	clients int
	// channels are all that may be watched, of is what the i-th client watches.
	channels []string
	of       func(i int) []string
	pattern  bool
}

func million(n int) []watching {
	users := func(n int, format string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(format, i)
		}
		return list
	}
	one, own, mix := []string{"news"}, users(n, "user:%d:news"), users(100_000, "room:%d:chat")
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(len(mix)-1))
	return []watching{
		{name: "one channel", clients: n, channels: one, of: func(int) []string { return one }},
		{name: "own channel", clients: n, channels: own, of: func(i int) []string { return own[i : i+1] }},
		{name: "3 of 100k channels", clients: n, channels: mix, of: func(int) []string {
			var list []string
			for len(list) < 3 {
				name := mix[zipf.Uint64()]
				if len(list) == 0 || list[0] != name && list[len(list)-1] != name {
					list = append(list, name)
				}
			}
			return list
		}},
		// Each place of a pattern is asked for by itself, so these are fewer.
		{name: "own pattern", clients: n / 10, channels: users(n/10, "user:%d:>"), of: nil, pattern: true},
	}
}

// requestOf is what a client that watches the channels has asked for.
func (w *watching) requestOf(b *testing.B, i int) *request {
	r := &request{clientID: fmt.Sprintf("client-%013d", i), initial: -1}
	if w.pattern {
		p, err := channel.ParsePattern(w.channels[i])
		if err != nil {
			b.Fatal(err)
		}
		r.patterns, r.want = w.channels[i:i+1], []channel.Pattern{p}
		return r
	}
	r.channels = w.of(i)
	for _, name := range r.channels {
		p, err := channel.Exact(name)
		if err != nil {
			b.Fatal(err)
		}
		r.want = append(r.want, p)
	}
	return r
}

// BenchmarkMillion puts all clients on one node and does with them what happens
// to a node. No client has a socket: what the kernel needs comes on top.
//
//	join, s/learned   the hub, with SUB to NATS; until the places in the stream are known
//	adopt             until the session is its loop's and current
//	ms/message        a message for the channel with the most clients, to the last of them
//	ms/counts         what a scrape of /metrics holds the hub's lock for, twice
//	ms/pulse          what a pulse costs a loop when all is well, -missed: while nobody is settled
//	ms/missed         how long no message is looked at when something was missed, as after a reconnection:
//	                  a slice of the topics is begun anew
//	s/missed          from then until every client is current and settled again
//	s/cut             from a cut connection to NATS until then
//	leave, ms/unsub   the loop and the hub; and the end of subscriptions, for as many as at a time
func BenchmarkMillion(b *testing.B) {
	for _, w := range million(clientsOf(b)) {
		b.Run(strings.ReplaceAll(w.name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				w.run(b)
			}
		})
	}
}

func (w *watching) run(b *testing.B) {
	p := newPaper(b, w.clients)
	defer func() { p.clients = nil }()
	report := func(v float64, unit string) { b.ReportMetric(v, unit) }
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(w.clients) }

	if !w.pattern {
		p.publishAll(w.channels) // so that the stream has something to tell
	}
	requests := make([]*request, w.clients)
	for i := range requests {
		requests[i] = w.requestOf(b, i)
	}
	before, _ := inUse()
	memory, _ := p.nats()

	begun := time.Now()
	var wait []chan struct{}
	for _, r := range requests {
		s, ready, err := p.n.join(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		s.sock = s.loop.engine.(*paperLoop)
		p.clients = append(p.clients, s)
		wait = append(wait, ready...)
	}
	report(each(time.Since(begun)), "ns/join")
	for _, ready := range wait {
		<-ready
	}
	report(time.Since(begun).Seconds(), "s/learned")
	wait = nil
	begun = time.Now()
	for i, s := range p.clients {
		p.n.adopt(s, requests[i], nil)
	}
	p.onLoops(func(*loop) {})
	report(each(time.Since(begun)), "ns/adopt")
	p.current()
	after, collect := inUse()
	// What a request has of its own a node does not keep.
	runtime.KeepAlive(requests)
	topics, _ := p.n.hub.counts()
	report(float64(after-before)/float64(w.clients), "B/client")
	report(float64(topics), "topics")
	now, _ := p.nats()
	report(float64(now-memory)/float64(topics), "NATS-B/topic")
	report(ms(collect), "ms/GC")

	if !w.pattern {
		w.deliver(p, report)
	}

	begun = time.Now()
	p.n.hub.counts()
	report(ms(time.Since(begun)), "ms/counts")
	report(ms(p.slowest(func(l *loop) { l.verify(l.verified, l.n) })), "ms/pulse")

	begun = time.Now()
	_, cpu := p.nats()
	report(ms(p.dispatcher(func(d *dispatcher) { d.missed("benchmark") })), "ms/missed")
	report(ms(p.slowest(func(l *loop) { l.verify(l.verified, l.n) })), "ms/pulse-missed")
	p.current()
	report(time.Since(begun).Seconds(), "s/missed")
	_, cpuAfter := p.nats()
	report((cpuAfter - cpu).Seconds(), "NATS-CPU-s/missed")

	checks := p.n.stats.checks.Load()
	begun = time.Now()
	p.proxy.Cut()
	p.until("the cut is noticed", func() bool { return p.n.stats.checks.Load() > checks })
	p.current()
	report(time.Since(begun).Seconds(), "s/cut")

	begun = time.Now()
	p.onLoops(func(l *loop) {
		for _, s := range p.clients {
			if s.loop == l {
				l.drop(s, clientGone, nil)
			}
		}
		l.bury()
	})
	report(each(time.Since(begun)), "ns/leave")
	begun = time.Now()
	parts := 0
	for left := 1; left > 0; parts++ {
		p.n.hub.sweep(begun.Add(2 * time.Hour))
		left, _ = p.n.hub.counts()
	}
	report(ms(time.Since(begun)/time.Duration(parts)), "ms/unsub")
}

// deliver publishes a message for the channel with the most clients, and then one
// for each of 100,000 channels.
func (w *watching) deliver(p *paper, report func(float64, string)) {
	many := map[string][]int{}
	for _, s := range p.clients {
		for _, x := range s.subs {
			if many[x.topic.name()] == nil {
				many[x.topic.name()] = make([]int, len(p.n.loops))
			}
			many[x.topic.name()][s.loop.index]++
		}
	}
	most, clients := "", 0
	for name, byLoop := range many {
		n := 0
		for _, k := range byLoop {
			n += k
		}
		if n > clients {
			most, clients = name, n
		}
	}
	wait := p.expect(many[most])
	begun := time.Now()
	p.publishAll([]string{most})
	wait()
	report(float64(time.Since(begun).Microseconds())/1000, "ms/message")
	report(float64(clients), "its-clients")

	var names []string
	total := make([]int, len(p.n.loops))
	for name, byLoop := range many {
		if len(names) == 100_000 {
			break
		}
		names = append(names, name)
		for i, k := range byLoop {
			total[i] += k
		}
	}
	if len(names) == 1 {
		return
	}
	wait = p.expect(total)
	begun = time.Now()
	p.publishAll(names)
	wait()
	report(float64(len(names))/time.Since(begun).Seconds(), "msg/s")
}
