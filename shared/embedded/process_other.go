//go:build !linux

package embedded

import (
	"errors"
	"os/exec"
	"time"
)

// dieWithParent does nothing: only Linux offers it. A test that is killed may
// leave its servers behind.
func dieWithParent(*exec.Cmd) {}

// Usage is for Linux only.
func Usage(int) (rss int64, cpu time.Duration, err error) {
	return 0, 0, errors.ErrUnsupported
}
