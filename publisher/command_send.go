package publisher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"sluice/shared/event"
	"sluice/shared/redisconn"
	"sluice/shared/worker"
)

const sendUsage = `publisher send: publishes to one Redis channel.

Usage:
  publisher send CHANNEL [DATA] [flags]

DATA is the payload. Without it, or as "-", the payload is standard input up to
its end, byte for byte: a newline at its end belongs to it (printf writes none).

Examples:
  publisher send race-events:demo '{"type":"race-start"}'
  publisher send user:alice '{"type":"order_shipped"}' -event notification
  publisher send photos < photo.jpg
  publisher send load x -n 100000 -rate 2000

`

// redisLimit is the largest payload that Redis takes, unless it is configured
// otherwise.
const redisLimit = 512 << 20

func (c command) send(args []string) int {
	fs := c.flags()
	name := fs.String("event", "", "publish the envelope {\"event\":`NAME`,\"data\":DATA}: data that is JSON stays JSON, other text becomes a string")
	n := fs.Int64("n", 1, "publish it `N` times")
	rate := fs.Float64("rate", 0, "messages per second; 0: as fast as possible")
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(sendUsage, fs)
		return worker.ExitOK
	case err != nil:
		return c.wrong(err)
	case len(rest) < 1 || len(rest) > 2:
		return c.wrong(fmt.Errorf("want a channel and data, got %d arguments %q", len(rest), rest))
	case *n < 1:
		return c.wrong(fmt.Errorf("-n %d: want at least 1", *n))
	case !(*rate >= 0 && *rate <= maxRate):
		return c.wrong(fmt.Errorf("-rate %v: want 0 (as fast as possible) to %.0f messages per second", *rate, maxRate))
	case !event.ValidName(*name):
		return c.wrong(fmt.Errorf("-event %q: a name has no line break", *name))
	}
	cfg, err := c.load()
	if err != nil {
		return c.wrong(err)
	}
	client, err := Open(cfg.Redis.URL, cfg.Redis.Client)
	if err != nil {
		return c.wrong(err)
	}
	defer client.Close()

	m := message{channel: rest[0]}
	if len(rest) == 2 && rest[1] != "-" {
		m.payload = []byte(rest[1])
	} else if m.payload, err = c.readPayload(redisLimit); err != nil {
		return c.wrong(err)
	}
	if *name != "" {
		if !utf8.Valid(m.payload) {
			return c.wrong(errors.New("-event: the data is not UTF-8 text and cannot stand in JSON; publish it without -event"))
		}
		m.payload = event.Envelope(*name, m.payload)
	}

	// Only from here on: while standard input is read, Ctrl-C just ends the
	// program.
	ctx, stop := c.untilSignal()
	defer stop()
	s := repeat(ctx, outbox{client}, m, *n, *rate)
	return c.tell(m, s, redisconn.Redact(cfg.Redis.URL))
}

// readPayload reads all of standard input.
func (c command) readPayload(limit int64) ([]byte, error) {
	if f, ok := c.stdin.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintf(c.stderr, "%s: the payload is read from the terminal; Ctrl-D ends it\n", c.name)
		}
	}
	b, err := io.ReadAll(io.LimitReader(c.stdin, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("standard input has more than %d bytes, the most that Redis takes", limit)
	}
	return b, nil
}

// tell prints the outcome and gives the exit code.
func (c command) tell(m message, s sent, redisURL string) int {
	if s.acked > 0 {
		how, what := "", "it"
		if s.limit > 1 {
			how = fmt.Sprintf(" in %s (%.0f/s)", s.end.Sub(s.start).Round(time.Millisecond), s.reached(s.end))
			what = "the last one"
		}
		fmt.Fprintf(c.stdout, "published %s to %q%s; %s received %s\n",
			count(s.acked, "message"), m.channel, how, count(s.receivers, "Redis subscriber"), what)
	}
	switch {
	case errors.Is(s.err, context.Canceled):
		fmt.Fprintf(c.stderr, "%s: interrupted after %d of %s\n", c.name, s.acked, count(s.limit, "message"))
		return worker.ExitFailed
	case s.err != nil:
		fmt.Fprintf(c.stderr, "%s: publish to %q at REDIS_URL=%s: %v (%d of %s acknowledged)\n",
			c.name, m.channel, redisURL, s.err, s.acked, count(s.limit, "message"))
		return worker.ExitFailed
	}
	if s.receivers == 0 {
		fmt.Fprintf(c.stderr, "%s: nobody is subscribed: is the bridge running?\n", c.name)
	}
	if s.limit > 1 && !s.kept(s.end) {
		fmt.Fprintf(c.stderr, "%s: the rate was not kept: asked for %g/s, reached %.1f/s\n",
			c.name, s.rate, s.reached(s.end))
	}
	return worker.ExitOK
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
