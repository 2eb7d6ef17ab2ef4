package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	processReady = 10 * time.Second // from the start to the first answer
	processStop  = 5 * time.Second  // from SIGTERM to SIGKILL
)

// Process is a server in a child process. It signals only the process that it
// started, never one found by name or port. Its methods may be called from any
// goroutine, but Stop, Kill and Restart not at the same time.
type Process struct {
	name, path, scheme string
	label              string // what the server calls itself, if it has a name
	port               int
	letGo              func() // of the port, which stays ours while the server is stopped
	args               func(port int) []string
	// ready asks the server at addr for a sign that it is the one with this pid,
	// and not somebody else's that took the port.
	ready func(ctx context.Context, addr string, pid int) error
	out   *tail
	child Child
}

// Addr is the host:port that the server listens on, the same after Restart.
func (p *Process) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is the redis:// or nats:// URL of Addr.
func (p *Process) URL() string { return p.scheme + "://" + p.Addr() }

// Pid is the process's id, 0 if it does not run.
func (p *Process) Pid() int {
	cmd, _ := p.child.Running()
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

func (p *Process) end(sig os.Signal, patience time.Duration) error {
	if err := p.child.End(sig, patience); err != nil {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	return nil
}

// Signal sends sig, for instance SIGSTOP and SIGCONT, if the process runs.
func (p *Process) Signal(sig os.Signal) error {
	cmd, done := p.child.Running()
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

// launch starts p on a free port. Where it cannot be held, another program may take it
// between its choice and its use, so there are three tries.
func (p *Process) launch(ctx context.Context) (*Process, error) {
	p.out = &tail{max: 256 << 10}
	var err error
	for range 3 {
		if p.port, p.letGo, err = holdPort(); err != nil {
			return nil, err
		}
		if err = p.start(ctx); err == nil {
			return p, nil
		}
		p.letGo()
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
	done, err := p.child.Start(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
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
