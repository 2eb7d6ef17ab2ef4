//go:build unix

package limits

import (
	"errors"
	"syscall"
)

// openFiles is how many files this process may have open, and whether that is
// known. Go has raised it to the hard limit at the start.
func openFiles() (uint64, bool) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, false
	}
	return uint64(l.Cur), true
}

// noFiles tells whether accept failed for want of something that comes back when
// connections close.
func noFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}
