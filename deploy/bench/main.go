//go:build linux

// Command bench measures Sluice as it is deployed: Redis, NATS, a bridge and a
// node as processes of their own, and clients that check every message. Beside
// it, in the same run, the yardsticks: a raw loop of one write(2) for each
// client, and the server that people commonly write. See README.md.
//
//	go run ./deploy/bench [-runs 3] [-time 5s] [-only REGEXP] [-smoke] [-json FILE]
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/deploy/bench/yard"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && slices.Contains([]string{"plain", "raw", "receive", "publish"}, args[0]) {
		return serve(args[0], args[1], args[2])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "runs of Sluice, of which the medians are shown (yardsticks run once)")
	length := flags.Duration("time", 5*time.Second, "load of each run")
	only := flags.String("only", "", "scenarios whose name matches the expression")
	smoke := flags.Bool("smoke", false, "a tenth of the clients for a short time: fails only on loss, repetition or disorder")
	file := flags.String("json", "", "write the results to this file, too")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	s := sizes{time: *length, share: 1}
	if *smoke {
		s, *runs = sizes{time: time.Second, share: 0.1}, 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return measure(ctx, match, s, *runs, *file)
}

// serve is a yardstick in a process of its own.
func serve(what, addr, to string) error {
	var control net.Listener
	var err error
	if what == "raw" { // before the port that tells that it runs
		if control, err = net.Listen("tcp", to); err != nil {
			return err
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	switch what {
	case "plain":
		return yard.Plain(ln, to)
	case "receive":
		return yard.Receive(ln, to)
	case "publish":
		return publishAlone(ln, to)
	}
	return yard.Raw(ln, control)
}

// measured is the outcome of one scenario on one target.
type measured struct {
	Scenario string `json:"scenario"`
	Target   string `json:"target"`
	Values   result `json:"values"`
	Runs     int    `json:"runs"`
}

func measure(ctx context.Context, match *regexp.Regexp, s sizes, runs int, file string) error {
	tools, err := newTools()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tools.dir)
	var all []measured
	begin := time.Now()
	for _, sc := range scenarios() {
		if !match.MatchString(sc.name) {
			continue
		}
		type kind struct {
			name  string
			start func() (*target, error)
			runs  int
		}
		kinds := []kind{{"sluice", func() (*target, error) { return tools.sluice(sc.env...) }, runs}}
		if sc.sluice != nil {
			kinds[0].start = func() (*target, error) { return sc.sluice(tools) }
		}
		if sc.plain {
			kinds = append(kinds, kind{"plain", tools.plain, 1})
		}
		if sc.raw {
			least := tools.raw
			if sc.least != nil {
				least = func() (*target, error) { return sc.least(tools) }
			}
			kinds = append(kinds, kind{"raw", least, 1})
		}
		for _, k := range kinds {
			var results []result
			for i := range k.runs {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				t, err := k.start()
				if err != nil {
					return fmt.Errorf("%s: %s: %w", sc.name, k.name, err)
				}
				r, err := sc.run(ctx, t, s)
				t.stop()
				if err != nil {
					return fmt.Errorf("%s: %s: %w", sc.name, k.name, err)
				}
				fmt.Fprintf(os.Stderr, "%4.0fs  %-50s %-6s %d/%d  %s\n", time.Since(begin).Seconds(), sc.name, k.name, i+1, k.runs, r)
				results = append(results, r)
			}
			all = append(all, measured{sc.name, k.name, median(results), k.runs})
		}
	}
	print(all)
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// median of each value.
func median(list []result) result {
	m := result{}
	for what := range list[0] {
		var values []float64
		for _, r := range list {
			values = append(values, r[what])
		}
		slices.Sort(values)
		m[what] = values[len(values)/2]
	}
	return m
}

func (r result) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(r)) {
		parts = append(parts, number(r[what])+" "+what)
	}
	return strings.Join(parts, ", ")
}

func number(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0f k", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// print shows a table in Markdown.
func print(all []measured) {
	fmt.Println("| scenario | sluice | plain net/http + go-redis | raw loop, or bare |")
	fmt.Println("|---|---|---|---|")
	var order []string
	rows := map[string]map[string]string{}
	for _, m := range all {
		if rows[m.Scenario] == nil {
			rows[m.Scenario] = map[string]string{}
			order = append(order, m.Scenario)
		}
		rows[m.Scenario][m.Target] = m.Values.String()
	}
	for _, name := range order {
		r := rows[name]
		fmt.Printf("| %s | %s | %s | %s |\n", name, cmp.Or(r["sluice"], "-"), cmp.Or(r["plain"], "-"), cmp.Or(r["raw"], "-"))
	}
}
