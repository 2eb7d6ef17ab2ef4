//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"sluice/deploy/bench/load"
	"sluice/deploy/bench/yard"
	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// What the bridge is given: messages of all channels in turn.
const (
	mirrorChannels = 500
	mirrorBatch    = 1000
	// mirrorWindow is how many messages may be in Redis' buffer and the bridge's
	// queue; at 200 bytes it is half of what Redis' default lets a subscriber wait.
	mirrorWindow = 50_000
)

// alone starts Redis, NATS and a bridge, and no node.
func (t *tools) alone(counter string, env ...string) (*target, error) {
	return t.mirroring(counter, func(redisURL, natsURL, addr string) (*exec.Cmd, error) {
		env := append(env, "REDIS_URL="+redisURL, "NATS_URL="+natsURL, "LOG_LEVEL=error", "ADMIN_ADDR="+addr)
		return start(t.bridge, "http://"+addr+"/readyz", env)
	})
}

// receiver starts Redis and what takes everything from it and does nothing else.
func (t *tools) receiver() (*target, error) {
	return t.mirroring(yard.Count, func(redisURL, _, addr string) (*exec.Cmd, error) {
		return start("/proc/self/exe", addr, nil, "receive", addr, redisURL)
	})
}

// pipelined starts NATS, has a bridge make its stream, and then fills that stream with
// a bare publisher.
func (t *tools) pipelined() (*target, error) {
	out, err := t.mirroring(yard.Count, func(redisURL, natsURL, addr string) (*exec.Cmd, error) {
		b, err := start(t.bridge, "http://"+addr+"/readyz", []string{"REDIS_URL=" + redisURL, "NATS_URL=" + natsURL, "LOG_LEVEL=error", "ADMIN_ADDR=" + addr})
		if err != nil {
			return nil, err
		}
		end(b)
		return start("/proc/self/exe", addr, nil, "publish", addr, natsURL)
	})
	if err == nil {
		out.flood = nil // it publishes itself
	}
	return out, err
}

// mirroring starts Redis, NATS and a worker whose HTTP port tells by a counter how
// many messages it has handled.
func (t *tools) mirroring(counter string, worker func(redisURL, natsURL, addr string) (*exec.Cmd, error)) (*target, error) {
	return t.on(func(r, n *embedded.Process, stop *stops) (*target, error) {
		addr := freeAddr()
		w, err := worker(r.URL(), n.URL(), addr)
		if err != nil {
			return nil, err
		}
		stop.add(func() { end(w) })
		flood, closeFlood, err := newFlood(r.URL())
		if err != nil {
			return nil, err
		}
		stop.add(closeFlood)
		return &target{
			server: w.Process.Pid, flood: flood,
			count: func() (uint64, error) { return counted("http://"+addr+"/metrics", counter) },
			procs: []proc{{"redis", r.Pid()}, {"nats", n.Pid()}, {"worker", w.Process.Pid}},
		}, nil
	})
}

// newFlood publishes batches to Redis at next to no cost: the bytes are made once, and
// of the answers only their number is looked at.
func newFlood(url string) (flood func() error, stop func(), err error) {
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0"))
	if err != nil {
		return nil, nil, err
	}
	var b []byte
	payload := load.Payload(0, time.Now())
	for i := range mirrorBatch {
		name := load.Channel(i % mirrorChannels)
		b = fmt.Appendf(b, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(name), name, len(payload), payload)
	}
	answers := bufio.NewReaderSize(c, 64<<10)
	return func() error {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(b); err != nil {
			return err
		}
		for range mirrorBatch {
			if line, err := answers.ReadSlice('\n'); err != nil {
				return err
			} else if line[0] != ':' {
				return fmt.Errorf("publish: %s", line)
			}
		}
		return nil
	}, func() { c.Close() }, nil
}

// plainClient does without compression, which would cost the worker more than the page.
var plainClient = http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 5 * time.Second}

// counted reads a counter from a page of metrics.
func counted(url, name string) (uint64, error) {
	resp, err := plainClient.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return uint64(v), err
		}
	}
	return 0, fmt.Errorf("%s has no %s", url, name)
}

// mirror measures how many messages a second are handled, and fails when any was lost.
func mirror(ctx context.Context, t *target, s sizes) (result, error) {
	time.Sleep(settleTime)
	before, err := t.count()
	if err != nil {
		return nil, err
	}
	used, err := t.cpu()
	if err != nil {
		return nil, err
	}
	begin, sent, got := time.Now(), uint64(0), uint64(0)
	for limit := begin.Add(s.time + 30*time.Second); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		over := time.Since(begin) > s.time
		if t.flood == nil && over || over && got >= sent {
			break
		}
		for t.flood != nil && !over && sent < got+mirrorWindow-mirrorBatch {
			if err := t.flood(); err != nil {
				return nil, err
			}
			sent += mirrorBatch
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("only %d of %d messages came", got, sent)
		}
		time.Sleep(20 * time.Millisecond)
		now, err := t.count()
		if err != nil {
			return nil, err
		}
		got = now - before
	}
	took := time.Since(begin)
	after, err := t.cpu()
	if t.flood != nil && got != sent {
		err = errors.Join(err, fmt.Errorf("%d messages came, %d were sent", got, sent))
	}
	return result{mirrored: float64(got) / took.Seconds(), cpuCost: (after - used).Seconds() * 1e6 / float64(got)}, err
}

// publishAlone is the yardstick that fills the stream.
func publishAlone(ln net.Listener, natsURL string) error {
	return yard.Publish(ln, natsURL, wire.Stream{Prefix: "sluice"}.Log()+"bench.", load.Payload(0, time.Now()), mirrorChannels, 4096)
}
