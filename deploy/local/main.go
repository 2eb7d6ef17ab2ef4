// Command local runs all of Sluice with one command: Redis and NATS (embedded,
// unless REDIS_URL or NATS_URL name others), a front that spreads connections over
// the nodes and serves the demo page, and the simulations that the page shows, in
// one process; two bridges and two SSE nodes as its children, so that the page can
// have them killed.
package main

import (
	"log/slog"
	"os"

	"sluice/shared/worker"
)

func main() {
	if isChild() {
		os.Exit(childMain(os.Args[2]))
	}
	spec().Main()
}

func spec() worker.Spec[config] {
	return worker.Spec[config]{
		Name:  "local",
		About: "runs everything on this machine, with a demo page",
		Log:   func(c *config) worker.Log { return worker.Log(c.Log) },
		New:   func(c config, log *slog.Logger) (worker.Worker, error) { return newLocal(c, log, os.Stdout) },
	}
}
