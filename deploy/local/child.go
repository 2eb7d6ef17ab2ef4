package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	childStart = 20 * time.Second // from its start to its first word
	childEnd   = 6 * time.Second  // from the end of its standard input to SIGKILL
	// childAgain is how long a worker that ended is away, so that one sees that it is.
	childAgain = 2 * time.Second
)

// child is a bridge or a node in a process of its own: the same program once more.
// So killing it is killing it, for the demo page, and not a play of it. It lives as
// long as its standard input, which ends with this process however that ends.
type child struct {
	name, kind string
	env        []string
	log        *slog.Logger
	hello      hello // where it listens: chosen at its first start, and kept

	mu     sync.Mutex // guards the following
	cmd    *exec.Cmd
	input  io.Closer
	over   chan struct{} // closed when cmd is over
	killed bool          // by Kill
	starts int
}

// hello is what a child says when its ports are open.
type hello struct {
	Addr  string `json:"addr"` // where browsers connect, of a node
	Admin string `json:"admin"`
}

// start runs the program and waits until its ports are open, 20 s at most. What it
// logs goes where this process logs.
func (c *child) start(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, childStart)
	defer cancel()
	cmd := exec.Command(program, childArg, c.kind)
	cmd.Env = append(c.env[:len(c.env):len(c.env)], "ADMIN_ADDR="+cmp.Or(c.hello.Admin, "127.0.0.1:0"))
	if c.kind == nodeKind {
		cmd.Env = append(cmd.Env, "SSENODE_ADDR="+cmp.Or(c.hello.Addr, "127.0.0.1:0"))
	}
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	var says hello
	if err := json.NewDecoder(output).Decode(&says); err != nil {
		_ = cmd.Process.Kill()
		ended := cmd.Wait()
		return fmt.Errorf("start %s: %w", c.name, cmp.Or(ctx.Err(), ended, err))
	}
	over := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd, c.input, c.over, c.killed = cmd, input, over, false
	if c.starts++; c.starts == 1 {
		c.hello = says // later it is told to listen there again, and nobody writes what others read
	}
	go func() {
		defer close(over)
		_ = cmd.Wait() // how it ended is in its ProcessState
	}()
	return nil
}

// Run starts the child again whenever it ends, until the context does.
func (c *child) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return c.end()
		case <-c.over:
		}
		if ctx.Err() != nil {
			return c.end()
		}
		c.log.Log(ctx, c.surprise(), "worker ended, starting it again", "worker", c.name, "state", c.cmd.ProcessState.String())
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(childAgain):
			}
			err := c.start(ctx)
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				c.log.Warn("worker does not start, trying on", "error", err)
			}
		}
	}
}

// surprise is how loud the end of the process is to be told.
func (c *child) surprise() slog.Level {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// end has the child end in order, and kills it if it does not within six seconds.
func (c *child) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return nil // it never started
	}
	c.input.Close()
	select {
	case <-c.over:
	case <-time.After(childEnd):
		_ = c.cmd.Process.Kill()
		<-c.over
		return fmt.Errorf("%s did not end", c.name)
	}
	if state := c.cmd.ProcessState; !state.Success() && !c.killed {
		return fmt.Errorf("%s ended with %s", c.name, state)
	}
	return nil
}

// kill ends the child as kill -9 does and waits for that. It returns the id that
// the process had.
func (c *child) kill() (pid int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := c.cmd.Process.Kill(); {
	case errors.Is(err, os.ErrProcessDone):
		return 0, fmt.Errorf("%s does not run just now", c.name)
	case err != nil:
		return 0, fmt.Errorf("kill %s: %w", c.name, err)
	}
	c.killed = true
	<-c.over
	return c.cmd.Process.Pid, nil
}

// state is what the demo page shows of a child.
type state struct {
	Name   string `json:"name"`
	Pid    int    `json:"pid"` // 0: it does not run
	Starts int    `json:"starts"`
	Role   string `json:"role,omitempty"` // of a bridge: leader, hot standby, cold standby and why, or ""
}

func (c *child) state() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := state{Name: c.name, Starts: c.starts}
	select {
	case <-c.over:
	default:
		s.Pid = c.cmd.Process.Pid
	}
	return s
}
