package publisher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"sluice/shared/worker"
)

const usage = `publisher: puts messages into Redis channels.

Usage:
  publisher send CHANNEL [DATA] [flags]     publish one message, or the same one many times
  publisher simulate SCENARIO... [flags]    play the apps of today: race, chat, stocks, ...
  publisher serve                           take messages over HTTP, until a signal
  publisher tap CHANNEL [flags]             follow its messages through Redis, stream and nodes
  publisher revoke -sub S|-jti J -for TIME  tokens of a subject, or one token, do not count any more
  publisher health | ready                  ask the one that serves on ADMIN_ADDR: exit code 0 or 1
  publisher -version

"publisher send -h" and so on list flags and examples, "publisher serve -h" its
settings.

Examples:
  publisher send race-events:demo '{"type":"race-start"}'
  publisher simulate all

`

// exitCodes and settings stand at the end of every help text.
const exitCodes = `
Exit codes: 0 done; 1 not everything was published, revoked or followed (Redis or
NATS is away, interrupted); 2 a wrong argument or setting, nothing was done.
`

// command is one run of the program, with what tests put in its place.
type command struct {
	ctx            context.Context
	name           string                 // publisher, publisher send, ...
	load           func() (Config, error) // of the settings
	stdin          io.Reader
	stdout, stderr io.Writer
}

// Main runs the program with these arguments (without its own name) and returns
// its exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := command{ctx: ctx, name: "publisher", load: worker.Load[Config], stdin: stdin, stdout: stdout, stderr: stderr}
	return c.run(args)
}

func (c command) run(args []string) int {
	if len(args) == 0 {
		return c.wrong(errors.New("want send, simulate, serve, tap, revoke, health or ready"))
	}
	switch name := args[0]; name {
	case "-h", "-help", "--help", "help":
		c.help(usage, nil)
		return worker.ExitOK
	case "-version", "--version", "version":
		fmt.Fprintf(c.stdout, "publisher %s %s\n", worker.Version(), runtime.Version())
		return worker.ExitOK
	case "send":
		c.name += " send"
		return c.send(args[1:])
	case "simulate":
		c.name += " simulate"
		return c.simulate(args[1:])
	case "serve":
		return Spec().Start(c.ctx, args[1:], c.stdout, c.stderr)
	case "tap":
		c.name += " tap"
		return c.tap(args[1:])
	case "health", "ready":
		return Spec().Start(c.ctx, args, c.stdout, c.stderr)
	case "revoke":
		c.name += " revoke"
		return c.revoke(args[1:])
	default:
		return c.wrong(fmt.Errorf("unknown command %q: want send, simulate, serve, tap, revoke, health or ready", name))
	}
}

// untilSignal is the command's context, which a signal ends; a second one ends the
// program at once.
func (c command) untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// flags is an empty set; parse errors and help are printed here, not by it.
func (c command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// help prints a text, then flags (if any), exit codes and settings.
func (c command) help(text string, fs *flag.FlagSet) {
	fmt.Fprint(c.stdout, text)
	if fs != nil {
		fmt.Fprintln(c.stdout, "Flags, before or after the arguments (what follows \"--\" is no flag):")
		fs.SetOutput(c.stdout)
		fs.PrintDefaults()
		fmt.Fprintln(c.stdout)
	}
	fmt.Fprint(c.stdout, "Settings are environment variables:\n\n")
	worker.Usage[Config](c.stdout)
	fmt.Fprint(c.stdout, exitCodes)
}

// wrong is for what the user can put right on the command line or in the
// environment.
func (c command) wrong(err error) int {
	fmt.Fprintf(c.stderr, "%s: %v (-h shows how)\n", c.name, err)
	return worker.ExitSettings
}
