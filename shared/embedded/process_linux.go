package embedded

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the child when we end in a way that leaves
// no time for cleanup: a test's timeout, a kill -9.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
