//go:build !linux

package embedded

import "os/exec"

// dieWithParent does nothing: only Linux offers it. A test that is killed may
// leave its servers behind.
func dieWithParent(*exec.Cmd) {}
