package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sluice/bridge"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// childArg is the first argument of a process that is to be a child; the second is
// its kind.
const childArg = "run-worker"

const (
	bridgeKind = "bridge"
	nodeKind   = "ssenode"
)

// isChild tells whether this process is to be a child.
func isChild() bool { return len(os.Args) == 3 && os.Args[1] == childArg }

// childMain is the main function of a child, and returns its exit code. It ends when
// its standard input does, or by SIGTERM. Ctrl-C, which a terminal sends to all of a
// group, is its parent's to heed.
func childMain(kind string) int {
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
		// Its parent may be gone, and NATS with it: nobody would kill it.
		time.Sleep(childEnd)
		os.Exit(worker.ExitFailed)
	}()
	w, hello, err := newChild(kind)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(hello)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
		return worker.ExitSettings
	}
	if wait, err := time.ParseDuration(os.Getenv(childWait)); err == nil {
		select {
		case <-ctx.Done(): // Run has ports to close
		case <-time.After(wait):
		}
	}
	if err := w.Run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
		return worker.ExitFailed
	}
	return worker.ExitOK
}

// newChild makes the worker from the environment that its parent has given it.
func newChild(kind string) (worker.Worker, hello, error) {
	switch kind {
	case bridgeKind:
		return build(bridge.Spec(), func(b *bridge.Bridge) hello { return hello{Admin: b.Addr().String()} })
	case nodeKind:
		return build(ssenode.Spec(), func(n *ssenode.Node) hello { return hello{n.Addr().String(), n.AdminAddr().String()} })
	}
	return nil, hello{}, fmt.Errorf("%q is no kind of worker", kind)
}

func build[C any, W worker.Worker](s worker.Spec[C], says func(W) hello) (worker.Worker, hello, error) {
	c, err := worker.Load[C]()
	if err != nil {
		return nil, hello{}, err
	}
	log, err := s.Log(&c).Logger(os.Stderr)
	if err != nil {
		return nil, hello{}, err
	}
	w, err := s.New(c, log.With("worker", os.Getenv(childName)))
	if err != nil {
		return nil, hello{}, err
	}
	return w, says(w.(W)), nil
}
