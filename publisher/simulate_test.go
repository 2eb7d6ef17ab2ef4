package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/shared/certs"
	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// simulateFake plays into a sender under the clock of a bubble.
func simulateFake(t *testing.T, out *fakeSender, o SimulateOptions) (totals, *embedded.Lines) {
	t.Helper()
	log, lines := testLog()
	sim, err := newSimulation(out, o, log)
	if err != nil {
		t.Fatal(err)
	}
	return sim.run(t.Context()), lines
}

func TestSimulateKeepsTheRate(t *testing.T) {
	f := func(rate float64, d time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			out := &fakeSender{took: time.Millisecond}
			sum, lines := simulateFake(t, out, SimulateOptions{Scenarios: []string{"stocks"}, Rate: rate, For: d})
			want := rate * d.Seconds()
			if got := float64(len(out.sent)); got < 0.98*want-1 || got > want+1 || sum.acked != int64(got) {
				t.Errorf("rate %v for %s: %v sent, %d counted, want %v", rate, d, got, sum.acked, want)
			}
			if lines.Count("rate was not kept") != 0 {
				t.Errorf("rate %v: %s", rate, lines)
			}
		})
	}
	f(5, time.Minute)
	f(30_000, time.Second)
}

func TestSimulateTellsWhenTheRateIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &fakeSender{took: 100 * time.Millisecond}
		sum, lines := simulateFake(t, out, SimulateOptions{Scenarios: []string{"stocks"}, Rate: 20_000, For: 2 * time.Second})
		if lines.Count("rate was not kept") != 1 || !strings.Contains(lines.String(), "asked=20000 reached=48") {
			t.Errorf("published %d: %s", sum.acked, lines)
		}
	})
}

// Redis is away for half a minute: said once for all scenarios, asked now and
// then, and afterwards the rate is the old one, without a burst.
func TestSimulateOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		down, up := start.Add(10*time.Second), start.Add(40*time.Second)
		out := &lockedSender{}
		out.fail = func() error {
			if now := time.Now(); now.After(down) && now.Before(up) {
				return errors.New("away")
			}
			return nil
		}
		const rate, seconds = 20, 60
		log, lines := testLog()
		sim, err := newSimulation(out, SimulateOptions{Rate: rate, For: seconds * time.Second}, log)
		if err != nil {
			t.Fatal(err)
		}
		sum := sim.run(t.Context())

		n := int64(len(Scenarios()))
		if lines.Count("cannot publish, trying on") != 1 || lines.Count("publishing again") != 1 || lines.Count("rate was not kept") != 0 {
			t.Errorf("log: %s", lines)
		}
		// The first second of an outage costs some tries, after that one each
		// 2.5 s or more.
		if most := n * 20; int64(out.tries) < n || int64(out.tries) > most {
			t.Errorf("%d tries, want at most %d", out.tries, most)
		}
		if sum.lost != n { // one message each, with which it was noticed
			t.Errorf("%d lost, want %d", sum.lost, n)
		}
		if all, want := sum.acked+sum.lost+sum.skipped, n*rate*seconds; all < want-n || all > want+n {
			t.Errorf("%+v: %d together, want %d", sum, all, want)
		}
		if sum.skipped < n*rate*29 || sum.skipped > n*rate*36 {
			t.Errorf("%d skipped in 30 s and at most one pause", sum.skipped)
		}
		perSecond := map[int]int{}
		for _, at := range out.at {
			perSecond[int(at.Sub(start)/time.Second)]++
		}
		for s, count := range perSecond {
			if count > int(n)*(rate+2) {
				t.Errorf("%d messages in second %d", count, s)
			}
		}
	})
}

// Redis answers pings and refuses to publish, as by an ACL: no hot loop. Once
// it does publish, the pauses of the next outage are short again.
func TestSimulateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		refused := func() error {
			switch at := time.Since(start); {
			case at < 60*time.Second, at >= 80*time.Second && at < 80300*time.Millisecond:
				return errors.New("NOPERM")
			}
			return nil
		}
		out := &fakeSender{fail: refused, pings: func() error { return nil }}
		_, lines := simulateFake(t, out, SimulateOptions{Scenarios: []string{"chat"}, Rate: 1000, For: 90 * time.Second})
		if out.tries < 10 || out.tries > 40 || lines.Count("cannot publish") != 2 || lines.Count("publishing again") != 2 {
			t.Errorf("%d tries: %s", out.tries, lines)
		}
		again := slices.IndexFunc(out.at, func(at time.Time) bool { return at.Sub(start) > 80300*time.Millisecond })
		if again < 0 || out.at[again].Sub(start) > 82*time.Second {
			t.Errorf("message %d of %d is the first after a short outage", again, len(out.at))
		}
	})
}

// A fake for scenarios that publish at the same time.
type lockedSender struct {
	fakeSender
	mu sync.Mutex
}

func (l *lockedSender) publish(ctx context.Context, batch []message) (int, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeSender.publish(ctx, batch)
}

func (l *lockedSender) ping(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeSender.ping(ctx)
}

// Through a real Redis: each channel's messages in order, none twice, also
// over a restart of Redis, which is logged once.
func TestSimulateOverRedis(t *testing.T) {
	t.Parallel()
	server := embedded.TestRedis(t)
	sub := subscribe(t, server.URL(), "*")
	client, err := Open(server.URL(), certs.Client{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, lines := testLog()
	done := make(chan error, 1)
	go func() { done <- Simulate(ctx, client, SimulateOptions{Rate: 500}, log) }()

	seqs := map[string]int64{}
	listen := func(n int) {
		t.Helper()
		for range n {
			m := sub.next()
			var s struct {
				Seq           int64
				Data, Message struct{ Seq int64 }
			}
			if err := json.Unmarshal([]byte(m.Payload), &s); err != nil {
				t.Fatal(err)
			}
			if seq := max(s.Seq, s.Data.Seq, s.Message.Seq); seq <= seqs[m.Channel] {
				t.Fatalf("%s: %d after %d", m.Channel, seq, seqs[m.Channel])
			} else {
				seqs[m.Channel] = seq
			}
		}
	}
	listen(3000)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the outage is logged", func() bool { return lines.Count("cannot publish, trying on") == 1 })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the return is logged", func() bool { return lines.Count("publishing again") == 1 })
	listen(3000)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("does not end")
	}
	if lines.Count("cannot publish") != 1 || lines.Count("publishing again") != 1 || lines.Count("simulation ended") != 1 {
		t.Errorf("log: %s", lines)
	}
}

func TestSimulateCommand(t *testing.T) {
	t.Parallel()
	url := embedded.TestRedis(t).URL()
	sub := subscribe(t, url, "*")
	code, _, errs := at(url, nowhere).run(t.Context(), "", "simulate", "-size", "1", "chat", "bills", "-rate", "500", "-bytes", "400", "-for", "500ms")
	if code != worker.ExitOK || !strings.Contains(errs, "simulation ended") {
		t.Fatalf("exit %d, stderr %s", code, errs)
	}
	heard := map[string]int{}
	for range 100 {
		m := sub.next()
		heard[m.Channel]++
		if len(m.Payload) != 400 {
			t.Errorf("%d bytes: %s", len(m.Payload), m.Payload)
		}
	}
	if len(heard) != 2 || heard["chat:demo"] == 0 || heard["billStatusChannel"] == 0 {
		t.Errorf("heard %v", heard)
	}
}

func TestSimulateCommandRedisAway(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://user:secret@"+unused)
	code, _, errs := run(t.Context(), "", "simulate", "all")
	if code != worker.ExitFailed || !strings.Contains(errs, "REDIS_URL=redis://***@"+unused) || strings.Contains(errs, "secret") {
		t.Errorf("exit %d, stderr %s", code, errs)
	}
}
