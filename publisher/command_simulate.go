package publisher

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"

	"sluice/shared/redisconn"
	"sluice/shared/worker"
)

const simulateUsage = `publisher simulate: plays what the publishers of today's apps publish.

Usage:
  publisher simulate SCENARIO... [flags]

Every payload has a "seq", counting its channel's messages from 1, and a
"timestamp" in UTC with milliseconds. It ends by Ctrl-C or -for; the program says
then what it has published and whether the rate was kept.

Examples:
  publisher simulate all
  publisher simulate chat stocks -rate 20 -size 10
  publisher simulate stocks -rate 50000 -size 1000 -bytes 300 -for 30s

`

func (c command) simulate(args []string) int {
	fs := c.flags()
	o := SimulateOptions{}
	fs.Float64Var(&o.Rate, "rate", DefaultRate, "messages per second of each scenario")
	fs.IntVar(&o.Size, "size", DefaultSize, "tracks, boards, auctions, rooms, bills, users, symbols and so on of each scenario")
	fs.IntVar(&o.Bytes, "bytes", 0, "pad each payload to about this many bytes")
	fs.DurationVar(&o.For, "for", 0, "end after this time, such as 90s; 0: not by itself")
	fs.Uint64Var(&o.Seed, "seed", 0, "another number gives other messages, the same one the same")
	rest, err := parse(fs, args)
	o.Scenarios = rest
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(simulateUsage+scenarioTable(), fs)
		return worker.ExitOK
	case err != nil:
		return c.wrong(err)
	case len(rest) == 0:
		return c.wrong(errors.New("want the name of a scenario, or all"))
	case o.Rate == 0 || o.Size == 0:
		// Only for the package does zero mean the default.
		return c.wrong(errors.New("-rate and -size: want more than 0"))
	}
	cfg, err := c.load()
	if err != nil {
		return c.wrong(err)
	}
	log, err := cfg.Log.Logger(c.stderr)
	if err != nil {
		return c.wrong(err)
	}
	client, err := Open(cfg.Redis.URL, cfg.Redis.Client)
	if err != nil {
		return c.wrong(err)
	}
	defer client.Close()
	out := outbox{client}
	sim, err := newSimulation(out, o, log)
	if err != nil {
		return c.wrong(err)
	}
	return worker.RunUntilSignal(c.ctx, c.name, log, func() (worker.Worker, error) {
		return simulator{sim, out, redisconn.Redact(cfg.Redis.URL)}, nil
	})
}

// simulator is a simulation as the command line runs it: at a prompt, a Redis
// that is not there from the start is more likely a wrong REDIS_URL than an
// outage to wait for.
type simulator struct {
	*simulation
	out      outbox
	redisURL string
}

func (s simulator) Run(ctx context.Context) error {
	switch err := s.out.ping(ctx); {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("ping REDIS_URL=%s: %w", s.redisURL, err)
	}
	for _, sc := range s.scenarios {
		s.log.Info("playing", "scenario", sc.Name, "channels", sc.Channels, "rate", s.opts.Rate, "size", s.opts.Size)
	}
	if s.run(ctx).acked == 0 && ctx.Err() == nil {
		return fmt.Errorf("publish at REDIS_URL=%s: nothing got through", s.redisURL)
	}
	return nil
}

// scenarioTable is for the help text.
func scenarioTable() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "SCENARIO\tREDIS CHANNELS\tWHAT HAPPENS")
	for _, s := range Scenarios() {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Name, s.Channels, s.Events)
	}
	fmt.Fprintln(tw, AllScenarios+"\tall of these\t")
	tw.Flush()
	return b.String() + "\n"
}
