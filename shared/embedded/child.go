package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const childGone = 10 * time.Second // from SIGKILL to the end

// Child is a process that ends with this one: on Linux however this one ends. The zero
// value has not been started; one that is over can be started again. Its methods may be
// called from any goroutine.
type Child struct {
	mu   sync.Mutex // guards the following fields
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd is over; nil before the first start
}

// Start runs cmd. done is closed when it is over, and cmd.ProcessState tells how.
func (c *Child) Start(cmd *exec.Cmd) (done <-chan struct{}, err error) {
	cmd.WaitDelay = time.Second
	dieWithParent(cmd)
	started, over := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel sends the parent's death signal when the *thread* that
		// forked ends: so this one stays, and waits for the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(over)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd, c.done = cmd, over
	return over, nil
}

// Running returns nils if the process is over, or was never started.
func (c *Child) Running() (*exec.Cmd, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		return nil, nil
	}
	select {
	case <-c.done:
		return nil, nil
	default:
		return c.cmd, c.done
	}
}

// End sends sig, and SIGKILL after patience or if that is 0. It returns once the process
// is over.
func (c *Child) End(sig os.Signal, patience time.Duration) error {
	cmd, done := c.Running()
	if done == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		_ = cmd.Process.Kill() // fails only if it has just ended
	}
	select {
	case <-done:
		return nil
	case <-time.After(childGone):
		return fmt.Errorf("still there %v after SIGKILL", childGone)
	}
}
