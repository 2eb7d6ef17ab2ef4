// Package worker is what the main functions of all workers share: settings from
// the environment, the log, signals and exit codes, and the admin port. A worker
// itself is a value that New made and that Run drives until its context ends.
package worker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

// Worker is a bridge, a node or a publisher: Run returns nil once the context
// has ended and everything is drained, or the error that stopped it.
type Worker interface {
	Run(ctx context.Context) error
}

// Exit codes of a worker's process.
const (
	ExitOK       = 0
	ExitFailed   = 1 // it was running and could not go on
	ExitSettings = 2 // it did not start: a setting, a flag or a taken port
)

// Spec says how to start one kind of worker from its settings C.
type Spec[C any] struct {
	Name  string                                // bridge, ssenode, publisher
	About string                                // one sentence for -h
	Log   func(*C) Log                          // where C keeps its log settings
	New   func(C, *slog.Logger) (Worker, error) // binds its ports and checks
}

// Main runs the worker and ends the process.
func (s Spec[C]) Main() {
	os.Exit(s.Start(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// Start is Main without the process around it, so that tests can run it:
// it returns the exit code. The first SIGINT or SIGTERM begins the drain, a
// second one ends the process at once.
func (s Spec[C]) Start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet(s.Name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	version := fs.Bool("version", false, "print the version and end")
	fs.Usage = func() {}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "%s: %s\n\nSettings are environment variables:\n\n", s.Name, s.About)
		Usage[C](stdout)
		fmt.Fprintln(stdout, "\nFlags: -h prints this, -version the version. Arguments: health and ready ask the\nworker on ADMIN_ADDR, and end with 0 if it is so, else with 1.")
		return ExitOK
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v (-h lists the settings)\n", s.Name, err)
		return ExitSettings
	case fs.NArg() == 1 && questions[fs.Arg(0)] != "":
		return s.ask(ctx, fs.Arg(0), stdout, stderr)
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "%s: takes no argument but health or ready, got %q; its settings are environment variables (-h lists them)\n", s.Name, fs.Arg(0))
		return ExitSettings
	case *version:
		fmt.Fprintf(stdout, "%s %s %s\n", s.Name, Version(), runtime.Version())
		return ExitOK
	}
	cfg, err := Load[C]()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		return ExitSettings
	}
	log, err := s.Log(&cfg).Logger(stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		return ExitSettings
	}
	return RunUntilSignal(ctx, s.Name, log, func() (Worker, error) {
		for _, key := range Unknown[C]() {
			log.Warn("setting is not known, ignored", "setting", key)
		}
		return s.New(cfg, log)
	})
}

// RunUntilSignal makes a worker and runs it until the context ends or a signal
// comes. After the first signal the handler is taken away, so a second one
// ends the process as the operating system does it.
func RunUntilSignal(ctx context.Context, name string, log *slog.Logger, build func() (Worker, error)) int {
	start := time.Now()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := build()
	if err != nil {
		log.Error("cannot start", "worker", name, "error", err)
		return ExitSettings
	}
	go func() {
		<-ctx.Done()
		stop()
	}()
	log.Info("started", "worker", name, "version", Version(), "took", time.Since(start).Round(time.Millisecond))
	err = w.Run(ctx)
	if err != nil {
		log.Error("stopped", "worker", name, "error", err)
		return ExitFailed
	}
	log.Info("stopped", "worker", name, "ran", time.Since(start).Round(time.Millisecond))
	return ExitOK
}

// stamped is set by the linker where a build does not see the repository:
// -ldflags "-X sluice/shared/worker.stamped=1.2.3".
var stamped string

// Version is what the linker was told, else the VCS revision or module version
// the binary was built from, or "devel".
func Version() string {
	if stamped != "" {
		return stamped
	}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	if v := bi.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}
