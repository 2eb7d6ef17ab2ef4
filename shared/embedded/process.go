package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	processReady = 10 * time.Second // from the start to the first answer
	processStop  = 5 * time.Second  // from SIGTERM to SIGKILL
	processGone  = 10 * time.Second // from SIGKILL to the end
)

// Process is a server in a child process. It signals only the process that it
// started, never one found by name or port. Its methods may be called from any
// goroutine, but Stop, Kill and Restart not at the same time.
type Process struct {
	name, path, scheme string
	label              string // what the server calls itself, if it has a name
	port               int
	args               func(port int) []string
	// ready asks the server at addr for a sign that it is the one with this pid,
	// and not somebody else's that took the port.
	ready func(ctx context.Context, addr string, pid int) error
	out   *tail

	mu   sync.Mutex // guards the following fields
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd is over; nil before the first start
}

// Addr is the host:port that the server listens on, the same after Restart.
func (p *Process) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is the redis:// or nats:// URL of Addr.
func (p *Process) URL() string { return p.scheme + "://" + p.Addr() }

// Pid is the process's id, 0 if it does not run.
func (p *Process) Pid() int {
	cmd, _ := p.running()
	if cmd == nil {
		return 0
	}
	return cmd.Process.Pid
}

// Output is what the server has written to stdout and stderr, over all
// restarts: the last 256 KiB of it.
func (p *Process) Output() string { return p.out.String() }

// Kill ends the process with SIGKILL and waits for its end.
func (p *Process) Kill() error {
	return p.end(os.Kill, 0)
}

// Stop ends the process with SIGTERM, and after 5 s with SIGKILL.
func (p *Process) Stop() error {
	return p.end(syscall.SIGTERM, processStop)
}

// Signal sends sig, for instance SIGSTOP and SIGCONT, if the process runs.
func (p *Process) Signal(sig os.Signal) error {
	cmd, done := p.running()
	if done == nil {
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	}
	return cmd.Process.Signal(sig)
}

// Restart stops the process, if it runs, and starts it on the same port with
// the same directory. It returns once the server answers.
func (p *Process) Restart() error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.start(context.Background())
}

// running returns nils if the process is over.
func (p *Process) running() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		return nil, nil
	}
	select {
	case <-p.done:
		return nil, nil
	default:
		return p.cmd, p.done
	}
}

func (p *Process) end(sig os.Signal, patience time.Duration) error {
	cmd, done := p.running()
	if done == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	if patience > 0 {
		select {
		case <-done:
			return nil
		case <-time.After(patience):
			_ = cmd.Process.Kill() // fails only if it has just ended
		}
	}
	select {
	case <-done:
		return nil
	case <-time.After(processGone):
		return fmt.Errorf("end %s: still there %v after SIGKILL", p.name, processGone)
	}
}

// launch starts p on a free port. Between its choice and its use another
// program may take it, so there are three tries.
func (p *Process) launch(ctx context.Context) (*Process, error) {
	p.out = &tail{max: 256 << 10}
	var err error
	for range 3 {
		if p.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = p.start(ctx); err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// start runs the program and waits until it answers, at most 10 s.
func (p *Process) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, processReady)
	defer cancel()
	cmd := exec.Command(p.path, p.args(p.port)...)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.WaitDelay = time.Second
	dieWithParent(cmd)

	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel sends the parent's death signal when the *thread* that
		// forked ends: so this one stays, and waits for the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in Output
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()

	var err error
	for {
		if err = p.ready(ctx, p.Addr(), cmd.Process.Pid); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("start %s: it ended: %s", p.name, p.out)
		case <-ctx.Done():
			_ = p.Kill()
			return fmt.Errorf("start %s: no answer: %w (%v): %s", p.name, ctx.Err(), err, p.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
