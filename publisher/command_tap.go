package publisher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

const tapUsage = `publisher tap: follows the messages of one channel, with times.

Usage:
  publisher tap CHANNEL [flags]

For each message it tells when Redis delivered it, when the stream had it, when it was
on its way to the nodes, and when each node had given it to how many clients. It
publishes nothing. It ends by itself, after -n messages or after -for, whichever
comes first. Payloads are not shown unless -data asks for it.

Times of the stream and of nodes are by their own clocks, and a message may come to the
bridge before it comes here: a small negative time is no mistake. Nothing names a message at
every place: it is known by its payload and its place in the channel's order, so of
equal payloads one that is lost on the way shows as the last of them.

Examples:
  publisher tap race-events:demo
  publisher tap user:alice -n 1 -for 10m -data 80

`

// Bounds of a tap.
const (
	tapMessages = 1000
	tapLasts    = time.Hour
	tapData     = 1024
)

func (c command) tap(args []string) int {
	fs := c.flags()
	o := tapOptions{}
	fs.IntVar(&o.messages, "n", 10, "end after `N` messages, at most 1000")
	fs.DurationVar(&o.lasts, "for", time.Minute, "end after this time, at most 1h")
	fs.IntVar(&o.show, "data", 0, "show so many `BYTES` of each payload, at most 1024")
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(tapUsage, fs)
		return worker.ExitOK
	case err != nil:
		return c.wrong(err)
	case len(rest) != 1:
		return c.wrong(fmt.Errorf("want a channel, got %d arguments %q", len(rest), rest))
	case o.messages < 1 || o.messages > tapMessages:
		return c.wrong(fmt.Errorf("-n %d: want 1 to %d", o.messages, tapMessages))
	case o.lasts <= 0 || o.lasts > tapLasts:
		return c.wrong(fmt.Errorf("-for %s: want more than 0, and at most %s", o.lasts, tapLasts))
	case o.show < 0 || o.show > tapData:
		return c.wrong(fmt.Errorf("-data %d: want 0 to %d", o.show, tapData))
	}
	o.channel = rest[0]
	if _, err := channel.Subject(o.channel); err != nil {
		return c.wrong(fmt.Errorf("channel %.100q: %w", o.channel, err))
	}
	cfg, err := c.load()
	if err != nil {
		return c.wrong(err)
	}
	if err := errors.Join(cfg.NATS.Validate(), cfg.Stream.Validate()); err != nil {
		return c.wrong(err)
	}
	ctx, stop := c.untilSignal()
	defer stop()
	log := slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	t := &tapper{passed: c.passed}
	t.ready = func(nodes control.Answers, server string) {
		fmt.Fprintf(c.stdout, "tapping %q at Redis %s and stream %s; %s; ends after %s or %s\n",
			o.channel, server, cfg.Stream.Name, nodesText(nodes), count(int64(o.messages), "message"), o.lasts)
	}
	err = tap(ctx, &cfg, o, log, t)
	if n := t.trails.lost + int(t.dropped.Load()); n > 0 {
		fmt.Fprintf(c.stderr, "%s: %s passed too fast to be followed\n", c.name, count(int64(n), "more message"))
	}
	switch {
	case errors.Is(err, context.Canceled):
		return worker.ExitOK // that is how one ends it
	case err != nil:
		return c.failed(err)
	}
	if t.trails.next == 0 {
		fmt.Fprintf(c.stdout, "nothing came\n")
	}
	return worker.ExitOK
}

// nodesText tells which nodes are tapped.
func nodesText(answers control.Answers) string {
	var list []string
	for _, a := range answers.List {
		var r wire.Tapping
		if wire.DecodeControl(a.Body, &r) == nil {
			list = append(list, fmt.Sprintf("%s with %s", a.Name, count(int64(r.Clients), "client")))
		}
	}
	for _, name := range answers.Missing {
		list = append(list, name+" does not answer")
	}
	if len(list) == 0 {
		return "no node"
	}
	return count(int64(len(list)), "node") + ": " + strings.Join(list, ", ")
}

// clock is how times are printed.
const clock = "15:04:05.000"

// passed prints a message that has passed.
func (c command) passed(t *trail) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d  %s, hash %s", t.number, count(int64(t.size), "byte"), t.hash)
	if len(t.data) > 0 {
		fmt.Fprintf(&b, "  %q", t.data)
		if len(t.data) < t.size {
			b.WriteString("…")
		}
	}
	b.WriteByte('\n')
	from := t.redis
	line := func(what string, at time.Time, text string) {
		ms := ""
		if !from.IsZero() && !at.Equal(from) {
			ms = fmt.Sprintf("%+.1f ms", float64(at.Sub(from).Microseconds())/1000)
		}
		when := "-"
		if !at.IsZero() {
			when = at.Format(clock)
		} else {
			ms = ""
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("   %-8s %-12s  %10s  %s", what, when, ms, text), " ") + "\n")
	}
	if from.IsZero() {
		line("redis", from, "not delivered here: another program writes to the stream, or Redis lost its order")
	} else {
		line("redis", from, "")
	}
	s := t.stream
	switch {
	case !s.is() && t.blind:
		line("stream", time.Time{}, fmt.Sprintf("not heard on its way to the nodes in %s, and the stream does not answer", trailLate))
	case !s.is():
		line("stream", time.Time{}, fmt.Sprintf("not there after %s: see the bridges' logs and sluice_bridge_dropped_total; or it is none of BRIDGE_PATTERNS", trailLate))
	case s.seq == 0:
		line("live", s.live, "without history")
	default:
		line("stream", s.stored.Local(), fmt.Sprintf("sequence %d", s.seq))
		if s.found {
			line("live", time.Time{}, "not heard: nodes fetch it from the stream")
		} else {
			line("live", s.live, "")
		}
	}
	for _, r := range t.nodes {
		line(r.Node, time.Unix(0, r.At), nodeText(r, from))
	}
	if s.is() && len(t.nodes) == 0 {
		line("nodes", time.Time{}, "none told of it: no client of theirs has this channel")
	}
	fmt.Fprint(c.stdout, b.String())
}

// nodeText is what became of a message on a node.
func nodeText(r wire.Tapped, from time.Time) string {
	if r.Held {
		return "not given out then: throttle= holds it back, or nobody can read it, or something before it is missing"
	}
	text := "given to " + count(int64(r.Given), "client")
	if r.Out != 0 && !from.IsZero() {
		text += fmt.Sprintf(" by %+.1f ms", float64(time.Unix(0, r.Out).Sub(from).Microseconds())/1000)
	}
	for _, more := range []struct {
		n    int
		text string
	}{{r.Behind, "behind, and gets it later"}, {r.Others, "for whom it is not, or who had it"}, {r.More, "not looked at"}} {
		if more.n > 0 {
			text += fmt.Sprintf("; %s %s", count(int64(more.n), "client"), more.text)
		}
	}
	return text
}
