//go:build !linux

// Command bench measures Sluice as it is deployed. It needs Linux: epoll and
// /proc.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux")
	os.Exit(1)
}
