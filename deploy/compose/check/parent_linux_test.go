package check

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the process when the tests end in a way that leaves no
// time for it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
