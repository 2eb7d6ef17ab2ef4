package publisher

import (
	"log/slog"

	"sluice/shared/worker"
)

// Spec says how `publisher serve` starts the HTTP API.
func Spec() worker.Spec[ServeConfig] {
	return worker.Spec[ServeConfig]{
		Name:  "publisher serve",
		About: "publishes to Redis what is posted over HTTP: /publish/{channel}, /publish, /notify, /broadcast, /revoke; /openapi.json describes it",
		Log:   func(c *ServeConfig) worker.Log { return c.Log },
		New:   func(c ServeConfig, log *slog.Logger) (worker.Worker, error) { return New(c, log) },
	}
}
