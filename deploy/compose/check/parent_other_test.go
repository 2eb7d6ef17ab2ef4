//go:build !linux

package check

import "os/exec"

// dieWithParent does nothing here: TestCompose needs Linux.
func dieWithParent(*exec.Cmd) {}
