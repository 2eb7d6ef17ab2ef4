//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/deploy/bench/load"
	"sluice/shared/embedded"
)

// scenario is one thing that is measured.
type scenario struct {
	name string
	env  []string // of Sluice
	// on tells which targets it makes sense for.
	plain, raw bool
	run        func(ctx context.Context, t *target, s sizes) (result, error)
	// What is started instead of all of Sluice and of the raw loop.
	sluice, least func(t *tools) (*target, error)
}

// sizes scale a run.
type sizes struct {
	time  time.Duration // of load
	share float64       // of the clients
}

func (s sizes) of(n int) int { return max(1, int(float64(n)*s.share)) }

// clients scales so many clients on each of so many channels.
func (s sizes) clients(channels, each int) (int, int) {
	if channels > 1 {
		return s.of(channels), each
	}
	return channels, s.of(each)
}

// result has what was measured, by what it is.
type result map[string]float64

// What is measured.
const (
	rate     = "deliveries/s"
	cpuCost  = "CPU s per million"
	p50      = "p50 ms"
	p99      = "p99 ms"
	p999     = "p99.9 ms"
	memory   = "KB per client"
	seconds  = "seconds"
	cpuTime  = "CPU s"
	opens    = "connections/s"
	openCPU  = "CPU ms each"
	started  = "ms to ready"
	alike    = "times the rate without them"
	mirrored = "messages/s"
)

var live = []string{"ROUTES=bench:> history=off"}

// scenarios are those of the table in README.md, in its order.
func scenarios() []scenario {
	return []scenario{
		{name: "idle, 10,000 clients on 1 channel", plain: true, run: idle(1, 10_000)},
		{name: "idle, 10,000 clients on 10,000 channels", plain: true, run: idle(10_000, 1)},
		{name: "bursts, 1 channel x 1,000, 32 messages in flight", plain: true, raw: true, run: burst(1, 1000, 32)},
		{name: "bursts, 1 x 10,000, 16 in flight", plain: true, raw: true, run: burst(1, 10_000, 16)},
		{name: "one message at a time, 1 x 1,000", plain: true, raw: true, run: burst(1, 1000, 1)},
		{name: "10,000 x 1, history=off", plain: true, raw: true, env: live, run: burst(10_000, 1, 512)},
		{name: "10,000 x 1, with history", run: burst(10_000, 1, 512)},
		{name: "paced, 27 messages/s x 1,000", plain: true, raw: true, run: paced(27, 1000)},
		{name: "connect + head + close", plain: true, raw: true, run: connects},
		{name: "resume: 2,000 clients, 20 channels x 20 missed", run: resume(2000, 20, 20)},
		{name: "3,000 clients beside 12,000 frozen ones", run: frozen(3000, 12_000)},
		{name: "bridge alone, history=off", raw: true, run: mirror, least: (*tools).receiver,
			sluice: func(t *tools) (*target, error) { return t.alone("sluice_bridge_live_total", live...) }},
		{name: "bridge alone, with history", raw: true, run: mirror, least: (*tools).pipelined,
			sluice: func(t *tools) (*target, error) { return t.alone("sluice_bridge_stored_total") }},
		{name: "cold start of a node", run: cold},
	}
}

// open connects clients, each to one of the channels.
func open(t *target, channels, each int) (*load.Clients, error) {
	return load.Open(t.addr, load.Options{
		Clients: channels * each,
		Channel: func(i int) int { return i % channels },
		Request: func(i int) (string, string) { return load.Path(i % channels), "" },
	})
}

// settleTime lets memory and pulses come to rest.
const settleTime = 1500 * time.Millisecond

func idle(channels, each int) func(context.Context, *target, sizes) (result, error) {
	return func(_ context.Context, t *target, s sizes) (result, error) {
		channels, each := s.clients(channels, each)
		warm, err := open(t, 10, 1)
		if err != nil {
			return nil, err
		}
		warm.Close()
		time.Sleep(settleTime)
		before, _, err := embedded.Usage(t.server)
		if err != nil {
			return nil, err
		}
		c, err := open(t, channels, each)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		time.Sleep(time.Duration(1+3*s.share) * settleTime) // the node gives memory back after some seconds of calm
		after, _, err := embedded.Usage(t.server)
		return result{memory: float64(after-before) / 1024 / float64(channels*each)}, err
	}
}

// flow publishes so that a number of messages is in flight: another one when one
// has reached all its clients.
type flow struct {
	t         *target
	c         *load.Clients
	each      int // clients of a channel that read
	window    int
	numbers   []uint64 // the next of each channel
	published int
}

func (f *flow) publish(ctx context.Context, n int) error {
	batch := make([]message, 0, n)
	for range n {
		ch := f.published % len(f.numbers)
		batch = append(batch, message{ch, load.Payload(f.numbers[ch], time.Now())})
		f.numbers[ch]++
		f.published++
	}
	return f.t.publish(ctx, batch)
}

// run returns how many messages were received, and in what time.
func (f *flow) run(ctx context.Context, d time.Duration) (got int64, took time.Duration, err error) {
	start, before, sent := time.Now(), f.c.Got(), f.published
	for time.Since(start) < d {
		if room := f.window - (f.published - sent - int(f.c.Got()-before)/f.each); room > 0 {
			if err := f.publish(ctx, room); err != nil {
				return 0, 0, err
			}
			continue
		}
		// A quarter of the window at a time, so that publishing is cheap.
		next := f.published - sent - f.window + max(1, f.window/4)
		if err := f.c.Wait(before+int64(next)*int64(f.each), 20*time.Second); err != nil {
			return 0, 0, err
		}
	}
	err = f.c.Wait(before+int64(f.published-sent)*int64(f.each), 20*time.Second)
	return f.c.Got() - before, time.Since(start), err
}

// measure warms up and returns deliveries a second and CPU seconds a million.
func (f *flow) measure(ctx context.Context, d time.Duration) (perSecond, cost float64, err error) {
	time.Sleep(settleTime)
	f.c.Begin(f.numbers[0])
	if _, _, err := f.run(ctx, d/5); err != nil {
		return 0, 0, err
	}
	f.c.Late()
	before, err := f.t.cpu()
	if err != nil {
		return 0, 0, err
	}
	got, took, err := f.run(ctx, d)
	if err != nil {
		return 0, 0, err
	}
	after, err := f.t.cpu()
	return float64(got) / took.Seconds(), (after - before).Seconds() * 1e6 / float64(got), err
}

func burst(channels, each, window int) func(context.Context, *target, sizes) (result, error) {
	return func(ctx context.Context, t *target, s sizes) (result, error) {
		channels, each := s.clients(channels, each)
		c, err := open(t, channels, each)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		f := &flow{t: t, c: c, each: each, window: window, numbers: make([]uint64, channels)}
		perSecond, cost, err := f.measure(ctx, s.time)
		return result{rate: perSecond, cpuCost: cost}, err
	}
}

// frozen compares deliveries to some clients alone with those beside many more
// that read nothing.
func frozen(reading, stuck int) func(context.Context, *target, sizes) (result, error) {
	return func(ctx context.Context, t *target, s sizes) (result, error) {
		reading, stuck := s.of(reading), s.of(stuck)
		numbers := make([]uint64, 1)
		with := func(stuck int) (float64, float64, error) {
			o := load.Options{
				Clients: reading + stuck,
				Channel: func(int) int { return 0 },
				Request: func(int) (string, string) { return load.Path(0), "" },
			}
			if stuck > 0 {
				o.Frozen = reading
			}
			c, err := load.Open(t.addr, o)
			if err != nil {
				return 0, 0, err
			}
			defer c.Close()
			f := &flow{t: t, c: c, each: reading, window: 32, numbers: numbers}
			if stuck > 0 { // until their buffers are full
				time.Sleep(settleTime)
				c.Begin(numbers[0])
				if _, _, err := f.run(ctx, s.time); err != nil {
					return 0, 0, err
				}
			}
			perSecond, _, err := f.measure(ctx, s.time)
			if err != nil {
				return 0, 0, err
			}
			used, _, err := embedded.Usage(t.server)
			return perSecond, float64(used), err
		}
		alone, before, err := with(0)
		if err != nil {
			return nil, err
		}
		beside, after, err := with(stuck)
		return result{rate: beside, alike: beside / alone, memory: (after - before) / 1024 / float64(stuck)}, err
	}
}

// cold starts the node again, with NATS and the bridge running, and returns the
// time until it is ready.
func cold(_ context.Context, t *target, _ sizes) (result, error) {
	took, err := t.restart()
	return result{started: float64(took.Microseconds()) / 1000}, err
}

// paced publishes at a rate, whatever comes of it.
func paced(perSecond, clients int) func(context.Context, *target, sizes) (result, error) {
	return func(ctx context.Context, t *target, s sizes) (result, error) {
		c, err := open(t, 1, s.of(clients))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		time.Sleep(settleTime)
		c.Begin(0)
		c.Late()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		n := uint64(0)
		for start := time.Now(); time.Since(start) < 2*s.time; n++ {
			<-tick.C
			if err := t.publish(ctx, []message{{0, load.Payload(n, time.Now())}}); err != nil {
				return nil, err
			}
		}
		if err := c.Wait(int64(n)*int64(s.of(clients)), 20*time.Second); err != nil {
			return nil, err
		}
		h := c.Late()
		ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
		return result{p50: ms(50), p99: ms(99), p999: ms(99.9)}, nil
	}
}

// connects opens and closes streams, a few at a time.
func connects(_ context.Context, t *target, s sizes) (result, error) {
	used, err := t.cpu()
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 4)
	start := time.Now()
	for k := range errs {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for i := 0; time.Since(start) < s.time && errs[k] == nil; i++ {
				errs[k] = connectOnce(t.addr, load.Path(i%100), buf)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	after, err := t.cpu()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return result{opens: float64(n.Load()) / took.Seconds(), openCPU: (after - used).Seconds() * 1000 / float64(n.Load())}, nil
}

func connectOnce(addr, path string, buf []byte) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: ports are few
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", path); err != nil {
		return err
	}
	var head strings.Builder
	for !strings.Contains(head.String(), "event: connected") {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		head.Write(buf[:n])
	}
	return nil
}

// resume lets clients come back all at once to a node that has never seen their
// channels, each with all channels, having missed some messages of each.
func resume(clients, channels, missed int) func(context.Context, *target, sizes) (result, error) {
	return func(ctx context.Context, t *target, s sizes) (result, error) {
		n := s.of(clients)
		id, err := position(t)
		if err != nil {
			return nil, err
		}
		for k := range missed {
			var batch []message
			for ch := range channels {
				batch = append(batch, message{ch, load.Payload(uint64(k), time.Now())})
			}
			if err := t.publish(ctx, batch); err != nil {
				return nil, err
			}
		}
		time.Sleep(settleTime)
		used, err := t.cpu()
		if err != nil {
			return nil, err
		}
		start := time.Now()
		c, err := load.Open(t.addr, load.Options{
			Clients: n,
			Channel: func(i int) int { return i % channels },
			Request: func(i int) (string, string) {
				return load.Path(i % channels), "Last-Event-ID: " + id + "\r\n"
			},
		})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if err := c.Wait(int64(n)*int64(missed), 20*time.Second); err != nil {
			return nil, err
		}
		took := time.Since(start)
		after, err := t.cpu()
		return result{seconds: took.Seconds(), cpuTime: (after - used).Seconds()}, err
	}
}

// position asks where the stream is, for clients that come back later.
func position(t *target) (string, error) {
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + t.addr + "/poll?channel=bench%3Aposition&timeout=5")
		if err != nil {
			return "", err
		}
		var a struct {
			LastEventID string `json:"lastEventId"`
		}
		err = json.NewDecoder(resp.Body).Decode(&a)
		resp.Body.Close()
		if err != nil || a.LastEventID != "" {
			return a.LastEventID, err
		}
	}
	return "", errors.New("the node tells no position")
}
