package embedded

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// dieWithParent has the kernel kill the child when we end in a way that leaves
// no time for cleanup: a test's timeout, a kill -9.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// userTick is the unit in which /proc tells CPU time, the same on every Linux.
const userTick = 10 * time.Millisecond

// Usage is a process's resident memory in bytes and the CPU time, user and system,
// that it has had, from /proc, in steps of 10 ms.
func Usage(pid int) (rss int64, cpu time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	// The program's name, in parentheses, may have blanks.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("usage of process %d: /proc tells only %d fields", pid, len(fields))
	}
	var user, system time.Duration
	var pages int64
	for i, v := range map[int]any{11: &user, 12: &system, 21: &pages} {
		if _, err := fmt.Sscan(string(fields[i]), v); err != nil {
			return 0, 0, fmt.Errorf("usage of process %d: %w", pid, err)
		}
	}
	return pages * int64(os.Getpagesize()), (user + system) * userTick, nil
}
