package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/sseclient"
)

// wait bounds every wait of these tests; only a hang reaches it.
const wait = 30 * time.Second

// binaries are built once for all tests of this package.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-bin-")
	if err != nil {
		return "", err
	}
	// -w: nobody debugs them, and linking takes a third less.
	cmd := exec.Command("go", "build", "-ldflags=-w", "-o", dir+string(filepath.Separator),
		"sluice/bridge/cmd/bridge", "sluice/ssenode/cmd/ssenode", "sluice/publisher/cmd/publisher")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return dir, nil
})

// proc is one of our programs, run as an operator runs it: by environment.
type proc struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  embedded.Lines
}

func (p *proc) output() string { return p.log.String() }

// start runs a program; its name may be followed by an argument.
func start(t testing.TB, name string, env ...string) *proc {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	program := strings.Fields(name)
	p := &proc{t: t, name: name, done: make(chan struct{}), cmd: exec.Command(filepath.Join(dir, program[0]), program[1:]...)}
	// Nothing but what is given: a setting of the machine must not help.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "ADMIN_ADDR=127.0.0.1:0"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.done); _ = p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() || os.Getenv("SLUICE_TEST_LOG") != "" {
			t.Logf("log of %s:\n%s", name, p.output())
		}
	})
	return p
}

// says waits for a line of the log and returns what the group in it matched.
func (p *proc) says(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	until(p.t, p.name+" says "+pattern, func() bool {
		found = re.FindStringSubmatch(p.output())
		return found != nil
	})
	return found[len(found)-1]
}

func (p *proc) admin() string { return "http://" + p.says(`admin=(\S+)`) }

func (p *proc) ready() bool {
	code, _ := fetch(p.t, p.admin()+"/readyz")
	return code == http.StatusOK
}

// metrics are all metrics: each series as it is written, and the sum over the
// labels of each that has some. There are none once the program has ended.
func (p *proc) metrics() map[string]float64 {
	p.t.Helper()
	all := map[string]float64{}
	code, text := fetch(p.t, p.admin()+"/metrics")
	if code != http.StatusOK {
		return all
	}
	for line := range strings.Lines(text) {
		if line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			p.t.Fatalf("metrics of %s: %v", p.name, err)
		}
		all[line[:i]] = v
		if name, _, labels := strings.Cut(line[:i], "{"); labels {
			all[name] += v
		}
	}
	return all
}

// metric is one of them.
func (p *proc) metric(name string) float64 {
	p.t.Helper()
	v, found := p.metrics()[name]
	if !found {
		p.t.Fatalf("%s has no metric %s", p.name, name)
	}
	return v
}

// stop asks the program to end and demands that it does so cleanly.
func (p *proc) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s ended with %d", p.name, code)
		}
	case <-time.After(wait):
		p.t.Errorf("%s does not end", p.name)
	}
}

// descriptors is how many files and sockets a process has open; Linux only.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// catches tells whether a process has a handler for a signal; true where there is no
// /proc.
func catches(t testing.TB, pid int, sig syscall.Signal) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), "SigCgt:")
	mask, err := strconv.ParseUint(strings.Fields(rest + " ?")[0], 16, 64)
	if err != nil {
		t.Fatalf("signals of process %d: %v", pid, err)
	}
	return mask&(1<<(sig-1)) != 0
}

// memory is a size of a process in bytes, by its name in /proc/<pid>/status;
// 0 where there is no /proc.
func memory(t testing.TB, pid int, what string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), what+":")
	kb, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		t.Fatalf("%s of process %d: %v", what, pid, err)
	}
	return kb << 10
}

// testSeed is another one for each run, or that of SLUICE_TEST_SEED.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SLUICE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SLUICE_TEST_SEED: %v", err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

var plainClient = &http.Client{Timeout: wait, Transport: &http.Transport{DisableKeepAlives: true}}

func fetch(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := plainClient.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, wait, f)
}

// site is an installation: Redis, NATS, a bridge and nodes, each a process.
type site struct {
	t      testing.TB
	redis  embedded.RedisServer
	nats   *embedded.Process
	client redis.UniversalClient
	bridge *proc
	nodes  []*proc
}

func newSite(t testing.TB, o embedded.NATSProcessOptions, nodes int, env ...string) *site {
	t.Helper()
	nats := embedded.TestNATSProcess(t, o)
	s := newSiteAt(t, func(string) string { return nats.URL() }, nodes, env...)
	s.nats = nats
	return s
}

// newSiteAt is newSite at another NATS; as is its URL for a user of deploy/nats.
func newSiteAt(t testing.TB, as func(user string) string, nodes int, env ...string) *site {
	t.Helper()
	s := &site{t: t, redis: embedded.TestRedis(t)}
	var err error
	if s.client, err = redisconn.Open(s.redis.URL(), redisconn.Options{Worker: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	s.bridge = start(t, "bridge", append([]string{"REDIS_URL=" + s.redis.URL(), "NATS_URL=" + as("bridge"), "BRIDGE_PULSE=200ms"}, env...)...)
	for i := range nodes {
		s.nodes = append(s.nodes, start(t, "ssenode", append([]string{
			"NATS_URL=" + as("node"), "SSENODE_ADDR=127.0.0.1:0", fmt.Sprintf("SSENODE_NAME=n%d", i+1), "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=500ms",
			"SSENODE_ENGINE=" + cmp.Or(os.Getenv("SLUICE_TEST_ENGINE"), "auto"), // .ci/run runs these tests once more with portable
		}, env...)...))
	}
	s.awaitReady()
	return s
}

func (s *site) awaitReady() {
	s.t.Helper()
	s.bridge.says(`msg=leading`)
	for _, p := range append([]*proc{s.bridge}, s.nodes...) {
		until(s.t, p.name+" is ready", p.ready)
	}
}

func (s *site) url(node int) string {
	return "http://" + s.nodes[node].says(`msg="node serves" addr=(\S+)`)
}

// addrs are where clients connect.
func (s *site) addrs() (all []string) {
	for i := range s.nodes {
		all = append(all, strings.TrimPrefix(s.url(i), "http://"))
	}
	return all
}

func (s *site) publish(name, payload string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.client.Publish(ctx, name, payload).Err(); err != nil {
		s.t.Fatalf("publish %q: %v", name, err)
	}
}

// open connects to a node and reads up to the connected event.
func (s *site) open(node int, path string) *sseclient.Stream {
	s.t.Helper()
	return openURL(s.t, s.url(node)+path)
}

// openURL connects and reads up to the connected event.
func openURL(t testing.TB, url string) *sseclient.Stream {
	t.Helper()
	return openWith(t, url, sseclient.Options{})
}

func openWith(t testing.TB, url string, o sseclient.Options) *sseclient.Stream {
	t.Helper()
	st, err := sseclient.Open(t.Context(), url, o)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	t.Cleanup(st.Close)
	if ev := next(t, st); ev.Name != "connected" {
		t.Fatalf("%s: first event %+v", url, ev)
	}
	return st
}

// positioned reads until the stream has told a position: from then on every
// event has its id.
func positioned(t testing.TB, st *sseclient.Stream) {
	t.Helper()
	for st.LastEventID() == "" {
		if ev, err := st.NextWithin(wait); err != nil || ev.HasData {
			t.Fatalf("before the first position: %+v, %v", ev, err)
		}
	}
}

func next(t testing.TB, st *sseclient.Stream) sseclient.Event {
	t.Helper()
	ev, err := st.NextData(wait)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func want(t testing.TB, st *sseclient.Stream, name, data string) sseclient.Event {
	t.Helper()
	ev := next(t, st)
	if ev.Name != name || ev.Data != data {
		t.Fatalf("got %q with %.200q (%d bytes), want %q with %.200q (%d bytes)", ev.Name, ev.Data, len(ev.Data), name, data, len(data))
	}
	return ev
}
