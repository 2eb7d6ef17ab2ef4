//go:build !linux

package ssenode

import "testing"

// ownPort leaves the choice to the server; see the one of Linux.
func ownPort(testing.TB) int { return 0 }
