// Command local runs all of Sluice in one process: Redis and NATS (embedded,
// unless REDIS_URL or NATS_URL name others), a bridge, two SSE nodes, a front
// that spreads connections over them and serves the demo page, and the
// simulations that the page shows.
package main

import (
	"log/slog"
	"os"

	"sluice/shared/worker"
)

func main() { spec().Main() }

func spec() worker.Spec[config] {
	return worker.Spec[config]{
		Name:  "local",
		About: "runs everything in one process, with a demo page",
		Log:   func(c *config) worker.Log { return worker.Log(c.Log) },
		New:   func(c config, log *slog.Logger) (worker.Worker, error) { return newLocal(c, log, os.Stdout) },
	}
}
