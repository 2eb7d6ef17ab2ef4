package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// alive: a process that was not reaped counts too.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func (p *Process) pid() int {
	p.child.mu.Lock()
	defer p.child.mu.Unlock()
	return p.child.cmd.Process.Pid
}

func TestRedisProcessLife(t *testing.T) {
	p := TestRedisProcess(t)
	addr, first := p.Addr(), p.pid()
	ready := func() error { return redisReady(t.Context(), addr, p.pid()) }
	if err := ready(); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil || alive(first) || ready() == nil {
		t.Fatalf("after Kill: %v, alive %v", err, alive(first))
	}
	if p.Kill() != nil || p.Stop() != nil || !errors.Is(p.Signal(syscall.SIGCONT), os.ErrProcessDone) {
		t.Error("a process that is over is not left alone")
	}
	if err := p.Restart(); err != nil || ready() != nil || p.Addr() != addr || p.pid() == first {
		t.Fatalf("after Restart: %v, %s", err, p.Addr())
	}
	if err := p.Stop(); err != nil || alive(p.pid()) {
		t.Fatalf("after Stop: %v", err)
	}
	if n := strings.Count(p.Output(), "Ready to accept connections"); n != 2 {
		t.Errorf("started %d times by its output:\n%s", n, p.Output())
	}
	if strings.Count(p.Output(), "SIGTERM") != 1 {
		t.Errorf("no clean end:\n%s", p.Output())
	}
}

// A process that does not obey SIGTERM, here because it is suspended.
func TestStopKillsWhatDoesNotObey(t *testing.T) {
	t.Parallel()
	p := TestRedisProcess(t)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := p.Stop(); err != nil || alive(p.pid()) || time.Since(start) < processStop {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestProcessThatDoesNotStart(t *testing.T) {
	t.Parallel()
	NeedProgram(t, "redis-server")
	// Ends at once, which nobody waits out.
	_, err := StartRedisProcess(t.Context(), t.TempDir(), "--nonsense", "1")
	if err == nil || !strings.Contains(err.Error(), "it ended") || !strings.Contains(err.Error(), "nonsense") {
		t.Error(err)
	}
	if _, err := StartNATSProcess(t.Context(), "/no/such/program", NATSProcessOptions{Dir: t.TempDir()}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	// Does not listen at all: the context's deadline ends it.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	p := &Process{name: "sleep", path: NeedProgram(t, "sleep"), ready: redisReady, args: func(int) []string { return []string{"60"} }}
	if _, err := p.launch(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if alive(p.pid()) {
		t.Error("left running")
	}
}

func TestReadyKnowsAStranger(t *testing.T) {
	p := TestRedisProcess(t)
	if err := redisReady(t.Context(), p.Addr(), p.pid()+1); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
	n := TestNATS(t)
	if err := natsAnswers(t.Context(), n.Addr(), "other"); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Error(err)
	}
}

func TestRedisProcessWithPassword(t *testing.T) {
	p := TestRedisProcess(t, "--requirepass", "x")
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	_, _ = c.Write([]byte("PING\r\n"))
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "-NOAUTH") {
		t.Errorf("%q, %v", line, err)
	}
}

func TestNATSProcessKilledKeepsItsFiles(t *testing.T) {
	p := TestNATSProcess(t, NATSProcessOptions{MaxPayload: 2 << 20, Config: `jetstream { sync_interval: always }`})
	nc, js := dial(t, p.URL())
	if nc.MaxPayload() != 2<<20 {
		t.Errorf("max payload %d", nc.MaxPayload())
	}
	store(t, js, jetstream.FileStorage)
	nc.Close()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	_, js = dial(t, p.URL())
	s, err := js.Stream(t.Context(), "S")
	if err != nil || s.CachedInfo().State.Msgs != 1 {
		t.Errorf("after kill -9: %v", err)
	}
	if err := p.Stop(); err != nil || alive(p.pid()) {
		t.Error(err)
	}
}

func TestBuildNATSServerBuildsOnce(t *testing.T) {
	path, err := BuildNATSServer("")
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := BuildNATSServer("")
	if err != nil || again != path {
		t.Fatal(again, err)
	}
	if after, err := os.Stat(again); err != nil || !os.SameFile(before, after) {
		t.Errorf("built again: %v", err)
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if version, _, _ := strings.Cut(strings.SplitN(path, "nats-server-", 2)[1], "-"); err != nil || !strings.Contains(string(out), version) {
		t.Errorf("%s: %s, %v", path, out, err)
	}
}

// TestDieWithParent runs this test binary again, has it start a Redis, and kills it.
func TestDieWithParent(t *testing.T) {
	if os.Getenv("EMBEDDED_CHILD") != "" {
		p := TestRedisProcess(t)
		fmt.Printf("pid %d\n", p.pid())
		select {}
	}
	NeedProgram(t, "redis-server")
	NeedLinux(t, "nothing else has a signal for the parent's death")
	cmd := exec.Command(os.Args[0], "-test.run=^TestDieWithParent$")
	cmd.Env = append(os.Environ(), "EMBEDDED_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	stuck := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	var pid int
	_, err = fmt.Fscanf(out, "pid %d\n", &pid)
	_ = cmd.Process.Kill()
	if err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ") // nobody may reap orphans here
	}
	t.Cleanup(func() {
		if !gone() { // a failed test leaves no server behind
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	eventually(t, "the grandchild is gone", gone)
}

// A stopped server's port is nobody else's: tests beside each other take hundreds.
func TestPortIsHeld(t *testing.T) {
	NeedLinux(t, "nothing else holds a port")
	n := TestNATS(t)
	must(t, n.Stop())
	if c, err := net.Dial("tcp", n.Addr()); err == nil {
		c.Close()
		t.Error("somebody answers at a port that is only held")
	}
	for range 20_000 { // more than there are ports to get
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		l.Close()
		if l.Addr().String() == n.Addr() {
			t.Fatal("somebody else has got the port")
		}
	}
	must(t, n.Restart())
}
