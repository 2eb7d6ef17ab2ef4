package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ended tells whether a process is over; nobody may reap orphans here.
func ended(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) != nil
}

// No child outlives its parent: not when that is killed, and not when it stops. This
// test runs itself as the parent.
func TestChildrenEndWithTheirParent(t *testing.T) {
	t.Parallel()
	if os.Getenv("LOCAL_TEST_PARENT") != "" {
		l, err := newLocal(localConfig(), slog.New(slog.DiscardHandler), &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, c := range l.children() {
			pids = append(pids, c.state().Pid)
		}
		if err := json.NewEncoder(os.Stdout).Encode(pids); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test kills it, or is gone
		os.Exit(1)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "LOCAL_TEST_PARENT=1")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	stuck := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	var pids []int
	err = json.NewDecoder(out).Decode(&pids)
	_ = cmd.Process.Kill()
	if err != nil || len(pids) != bridges+2 {
		t.Fatalf("children %v, %v", pids, err)
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			if !ended(pid) { // a failed test leaves none behind
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	for _, pid := range pids {
		until(t, "the children are over", func() bool { return ended(pid) })
	}
}

// A child that cannot start says why, and is not left behind.
func TestChildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	c := &child{name: "odd", kind: nodeKind, env: []string{"SSENODE_ENGINE=steam"}, log: slog.New(slog.DiscardHandler)}
	if err := c.start(t.Context()); err == nil || !strings.Contains(err.Error(), "start odd: exit status 2") {
		t.Error(err)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
	if err := (&child{name: "odd", kind: "cook"}).start(t.Context()); err == nil || !strings.Contains(err.Error(), "start odd") {
		t.Error(err)
	}
}
