//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/deploy/bench/load"
	"sluice/deploy/bench/yard"
	"sluice/shared/embedded"
)

// target is what is measured: something that serves streams, and the way to
// publish to it.
type target struct {
	name    string
	addr    string // where clients connect
	admin   string // of the node, if it is Sluice
	procs   []proc // whose CPU counts
	server  int    // the pid whose memory counts
	publish func(ctx context.Context, batch []message) error
	restart func() (time.Duration, error) // of the node, if it is Sluice
	flood   func() error                  // publishes a batch; nil but for the bridge alone
	count   func() (uint64, error)        // how many messages were handled, likewise
	stop    func()
}

type message struct {
	channel int
	payload []byte
}

// proc is a process to be measured.
type proc struct {
	name string
	pid  int
}

// tools are programs built, or found, once.
type tools struct {
	dir, bridge, node, nats string
}

func newTools() (*tools, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	t := &tools{dir: dir, bridge: filepath.Join(dir, "bridge"), node: filepath.Join(dir, "ssenode")}
	cmd := exec.Command("go", "build", "-o", dir+"/", "sluice/bridge/cmd/bridge", "sluice/ssenode/cmd/ssenode")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	if t.nats, err = embedded.BuildNATSServer(""); err != nil {
		return nil, err
	}
	return t, nil
}

// start runs a program of ours and waits until the address answers.
func start(path, addr string, env []string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	limit := time.Now().Add(20 * time.Second)
	for {
		if answers(addr) {
			return cmd, nil
		}
		if time.Now().After(limit) {
			end(cmd)
			return nil, fmt.Errorf("start %s: %s does not answer", path, addr)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// answers tells whether an http:// URL gives 200, or a host:port can be connected.
func answers(addr string) bool {
	if strings.HasPrefix(addr, "http://") {
		resp, err := http.Get(addr)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode == http.StatusOK
	}
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// publisher publishes to Redis, a batch in one round trip.
func publisher(url string) (func(context.Context, []message) error, func(), error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, nil, err
	}
	client := redis.NewClient(o)
	return func(ctx context.Context, batch []message) error {
		pipe := client.Pipeline()
		for _, m := range batch {
			pipe.Publish(ctx, load.Channel(m.channel), m.payload)
		}
		_, err := pipe.Exec(ctx)
		return err
	}, func() { client.Close() }, nil
}

// stops ends what was started, the last first.
type stops []func()

func (s *stops) add(f func()) { *s = append(*s, f) }

func (s *stops) run() {
	for i := len(*s) - 1; i >= 0; i-- {
		(*s)[i]()
	}
	*s = nil
}

// on starts Redis and NATS, and a target on them. It ends with what was added to stop.
func (t *tools) on(build func(r, n *embedded.Process, stop *stops) (*target, error)) (_ *target, err error) {
	var stop stops
	defer func() {
		if err != nil {
			stop.run()
		}
	}()
	dir, err := os.MkdirTemp(t.dir, "run-")
	if err != nil {
		return nil, err
	}
	stop.add(func() { os.RemoveAll(dir) })
	r, err := embedded.StartRedisProcess(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	stop.add(func() { _ = r.Kill() })
	n, err := embedded.StartNATSProcess(context.Background(), t.nats, embedded.NATSProcessOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	stop.add(func() { _ = n.Kill() })
	out, err := build(r, n, &stop)
	if err != nil {
		return nil, err
	}
	out.stop = stop.run
	return out, nil
}

// sluice starts Redis, NATS, a bridge and a node with default settings.
func (t *tools) sluice(env ...string) (*target, error) {
	return t.on(func(r, n *embedded.Process, stop *stops) (*target, error) { return t.workers(r, n, stop, env) })
}

// workers starts a bridge and a node.
func (t *tools) workers(r, n *embedded.Process, stop *stops, env []string) (*target, error) {
	bridgeAdmin, nodeAdmin, nodeAddr := freeAddr(), freeAddr(), freeAddr()
	env = append(env, "REDIS_URL="+r.URL(), "NATS_URL="+n.URL(), "LOG_LEVEL=error")
	b, err := start(t.bridge, "http://"+bridgeAdmin+"/readyz", append(env, "ADMIN_ADDR="+bridgeAdmin))
	if err != nil {
		return nil, err
	}
	stop.add(func() { end(b) })
	startNode := func() (*exec.Cmd, error) {
		return start(t.node, "http://"+nodeAdmin+"/readyz", append(env, "ADMIN_ADDR="+nodeAdmin, "SSENODE_ADDR="+nodeAddr))
	}
	s, err := startNode()
	if err != nil {
		return nil, err
	}
	stop.add(func() { end(s) })
	restart := func() (time.Duration, error) {
		end(s)
		begin := time.Now()
		again, err := startNode()
		if err == nil {
			s = again
		}
		return time.Since(begin), err
	}
	publish, closePublisher, err := publisher(r.URL())
	if err != nil {
		return nil, err
	}
	stop.add(closePublisher)
	return &target{
		name: "sluice", addr: nodeAddr, admin: nodeAdmin, server: s.Process.Pid, publish: publish, restart: restart,
		procs: []proc{{"redis", r.Pid()}, {"nats", n.Pid()}, {"bridge", b.Process.Pid}, {"node", s.Process.Pid}},
	}, nil
}

// plain starts Redis and the server that people commonly write.
func (t *tools) plain() (*target, error) {
	dir, err := os.MkdirTemp(t.dir, "run-")
	if err != nil {
		return nil, err
	}
	r, err := embedded.StartRedisProcess(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	s, err := start("/proc/self/exe", addr, nil, "plain", addr, r.URL())
	if err != nil {
		_ = r.Kill()
		return nil, err
	}
	publish, closePublisher, err := publisher(r.URL())
	if err != nil {
		return nil, err
	}
	return &target{
		name: "plain", addr: addr, server: s.Process.Pid, publish: publish,
		procs: []proc{{"redis", r.Pid()}, {"server", s.Process.Pid}},
		stop:  func() { closePublisher(); end(s); _ = r.Kill(); os.RemoveAll(dir) },
	}, nil
}

// raw starts the raw loop.
func (t *tools) raw() (*target, error) {
	addr, control := freeAddr(), freeAddr()
	s, err := start("/proc/self/exe", addr, nil, "raw", addr, control)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", control)
	if err != nil {
		end(s)
		return nil, err
	}
	var buf []byte
	return &target{
		name: "raw", addr: addr, server: s.Process.Pid, procs: []proc{{"loop", s.Process.Pid}},
		publish: func(_ context.Context, batch []message) error {
			buf = buf[:0]
			for _, m := range batch {
				buf = yard.Frame(buf, m.channel, m.payload)
			}
			_, err := c.Write(buf)
			return err
		},
		stop: func() { c.Close(); end(s) },
	}, nil
}

// cpu is what the target's processes have used so far.
func (t *target) cpu() (time.Duration, error) {
	var all time.Duration
	for _, p := range t.procs {
		_, used, err := embedded.Usage(p.pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		all += used
	}
	return all, nil
}
