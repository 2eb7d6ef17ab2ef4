package ssenode

import (
	"log/slog"

	"sluice/shared/worker"
)

// Spec says how the command starts a node.
func Spec() worker.Spec[Config] {
	return worker.Spec[Config]{
		Name:  "ssenode",
		About: "delivers events from NATS to browsers as server-sent events",
		Log:   func(c *Config) worker.Log { return c.Log },
		New:   func(c Config, log *slog.Logger) (worker.Worker, error) { return New(c, log) },
	}
}
