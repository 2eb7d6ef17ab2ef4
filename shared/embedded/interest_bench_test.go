package embedded

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// What NATS does when nodes watch very many channels, without our programs: these
// benchmarks belong to "A million clients on paper" in deploy/README.md, and run
// once each (-benchtime 1x). SLUICE_BENCH_SUBJECTS says how many subjects.

// subjectsOf is how many subjects are subscribed, 100,000 if it is not said.
func subjectsOf(b *testing.B) int {
	b.Helper()
	text := os.Getenv("SLUICE_BENCH_SUBJECTS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < interestNodes {
		b.Fatalf("SLUICE_BENCH_SUBJECTS=%q: want a number of at least %d", text, interestNodes)
	}
	return n
}

const (
	// interestNodes is over how many connections the subjects are spread.
	interestNodes = 10
	// interestWait bounds every wait; only a hang reaches it.
	interestWait = 2 * time.Minute
)

// interest is connections that stand for nodes: each subscribes to its share of
// the subjects, onto one Go channel as a node does.
type interest struct {
	b     *testing.B
	conns []*nats.Conn
	inbox chan *nats.Msg
	n     int
}

func subjectOf(i int) string { return fmt.Sprintf("sluice.live.user.%d.news", i) }

func connectNodes(b *testing.B, url string) *interest {
	in := &interest{b: b, inbox: make(chan *nats.Msg, 1<<16)}
	for range interestNodes {
		in.conns = append(in.conns, dialNode(b, url))
	}
	return in
}

func dialNode(b *testing.B, url string) *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(url, nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// watch subscribes to the subjects and tells when their servers know of all.
func (in *interest) watch(n int) {
	in.b.Helper()
	for i := range n {
		if _, err := in.conns[i%len(in.conns)].ChanSubscribe(subjectOf(i), in.inbox); err != nil {
			in.b.Fatal(err)
		}
	}
	in.n = n
	for _, nc := range in.conns {
		if err := nc.FlushTimeout(interestWait); err != nil {
			in.b.Fatal(err)
		}
	}
}

// reaches publishes on the subject until it comes, and tells how long that took.
// Each try waits for the server's answer, so it is not finer than that.
func (in *interest) reaches(from *nats.Conn, subject string) time.Duration {
	in.b.Helper()
	begun := time.Now()
	for {
		if err := from.Publish(subject, nil); err != nil {
			in.b.Fatal(err)
		}
		if err := from.FlushTimeout(interestWait); err != nil {
			in.b.Fatal(err)
		}
		for {
			select {
			case m := <-in.inbox:
				if m.Subject == subject {
					return time.Since(begun)
				}
				continue
			default:
			}
			break
		}
		if time.Since(begun) > interestWait {
			in.b.Fatalf("%s: nothing comes", subject)
		}
	}
}

// burst is how many messages are under way at a time.
const burst = 10_000

// deliver publishes messages of 200 bytes on so many of the subjects, at random,
// and waits until all have come.
func (in *interest) deliver(from *nats.Conn, messages, subjects int) time.Duration {
	in.b.Helper()
	data := make([]byte, 200)
	begun := time.Now()
	for range messages / burst {
		for range burst {
			if err := from.Publish(subjectOf(rand.N(subjects)), data); err != nil {
				in.b.Fatal(err)
			}
		}
		if err := from.FlushTimeout(interestWait); err != nil {
			in.b.Fatal(err)
		}
		limit := time.NewTimer(interestWait)
		for range burst {
			select {
			case <-in.inbox:
			case <-limit.C:
				in.b.Fatal("messages do not come")
			}
		}
		limit.Stop()
	}
	return time.Since(begun)
}

// empty takes what is left of earlier tries.
func (in *interest) empty() {
	for len(in.inbox) > 0 {
		<-in.inbox
	}
}

func usage(b *testing.B, p *Process) (rss int64, cpu time.Duration) {
	b.Helper()
	rss, cpu, err := Usage(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	return rss, cpu
}

func interestServer(b *testing.B) *Process {
	NeedLinux(b, "reads memory and CPU time from /proc")
	return TestNATSProcess(b, NATSProcessOptions{})
}

// BenchmarkInterest is one server: what a subscription costs it, and a message
// when there are many subjects. cached are messages on 500 of them: a server
// remembers what it has found for about 1,024 subjects.
func BenchmarkInterest(b *testing.B) {
	n := subjectsOf(b)
	for b.Loop() {
		server := interestServer(b)
		in := connectNodes(b, server.URL())
		before, cpu := usage(b, server)
		begun := time.Now()
		in.watch(n)
		took := time.Since(begun)
		after, cpuAfter := usage(b, server)
		b.ReportMetric(float64(took.Nanoseconds())/float64(n), "ns/SUB")
		b.ReportMetric(float64((cpuAfter-cpu).Nanoseconds())/float64(n), "CPU-ns/SUB")
		b.ReportMetric(float64(after-before)/float64(n), "B/SUB")

		from := dialNode(b, server.URL())
		const messages = 20 * burst
		for _, c := range []struct {
			name     string
			subjects int
		}{{"cached", min(500, n)}, {"all", n}} {
			_, cpu = usage(b, server)
			took = in.deliver(from, messages, c.subjects)
			_, cpuAfter = usage(b, server)
			b.ReportMetric(messages/took.Seconds(), "msg/s-"+c.name)
			b.ReportMetric(float64((cpuAfter-cpu).Nanoseconds())/messages, "CPU-ns/msg-"+c.name)
		}
	}
}

// BenchmarkClusterInterest is three servers: all nodes are at the first, what is
// published is at the second. lag is from when the first server knows of all
// subscriptions until the second does; moved is from the death of the first until
// what is published arrives at all nodes by the third.
func BenchmarkClusterInterest(b *testing.B) {
	n := subjectsOf(b)
	for b.Loop() {
		NeedLinux(b, "reads memory and CPU time from /proc")
		c := TestNATSCluster(b, 3)
		in := connectNodes(b, c.Servers[0].URL()+","+c.Servers[2].URL())
		from := dialNode(b, c.Servers[1].URL())
		var rss [3]int64
		for i, p := range c.Servers {
			rss[i], _ = usage(b, p)
		}
		single := func() float64 {
			var times []time.Duration
			for i := range 200 {
				subject := fmt.Sprintf("sluice.live.one.%d.%d", rand.Int64(), i)
				sub, err := in.conns[0].ChanSubscribe(subject, in.inbox)
				if err != nil {
					b.Fatal(err)
				}
				if err := in.conns[0].FlushTimeout(interestWait); err != nil {
					b.Fatal(err)
				}
				times = append(times, in.reaches(from, subject))
				if err := sub.Unsubscribe(); err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(times)
			return float64(times[len(times)/2].Microseconds())
		}
		b.ReportMetric(single(), "µs/one-before")

		begun := time.Now()
		in.watch(n)
		watched := time.Now()
		for i := range in.conns {
			in.reaches(from, subjectOf(n-1-i))
		}
		b.ReportMetric(watched.Sub(begun).Seconds(), "s/all-at-first")
		b.ReportMetric(time.Since(watched).Seconds()*1000, "ms/lag")
		for i, p := range c.Servers[:2] {
			now, _ := usage(b, p)
			b.ReportMetric(float64(now-rss[i])/float64(n), []string{"B/SUB-here", "B/SUB-elsewhere"}[i])
		}
		in.empty()
		b.ReportMetric(single(), "µs/one-after")
		in.empty()

		const messages = 10 * burst
		var cpu [2]time.Duration
		for i := range cpu {
			_, cpu[i] = usage(b, c.Servers[i])
		}
		took := in.deliver(from, messages, n)
		b.ReportMetric(messages/took.Seconds(), "msg/s-over-route")
		for i := range cpu {
			_, now := usage(b, c.Servers[i])
			b.ReportMetric(float64((now-cpu[i]).Nanoseconds())/messages, []string{"CPU-ns/msg-here", "CPU-ns/msg-elsewhere"}[i])
		}

		begun = time.Now()
		if err := c.Servers[0].Kill(); err != nil {
			b.Fatal(err)
		}
		for i := range in.conns {
			in.reaches(from, subjectOf(n-1-i))
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s/moved")
	}
}
