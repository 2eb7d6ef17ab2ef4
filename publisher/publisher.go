// Package publisher puts messages into Redis channels: one by hand (send), many as
// the publishers of today's apps do (simulate), or what others post to it over HTTP
// (serve). It only ever speaks to
// Redis, with plain PUBLISH, and so stands where any app's own publisher stands:
// what it sends takes the same way to the browsers.
package publisher

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
	"sluice/shared/worker"
)

// Config is what send and simulate read from the environment.
type Config struct {
	Redis struct {
		URL string `default:"redis://127.0.0.1:6379" desc:"Redis to publish to"`
	}
	Log worker.Log
}

// Open returns a client as publishing needs it: a command is tried once. When a
// connection breaks before the answer has come, nobody knows whether Redis did
// publish; trying again would show some messages twice to every browser.
func Open(redisURL string) (redis.UniversalClient, error) {
	return redisconn.Open(triedOnce(redisURL), redisconn.Options{Worker: "publisher"})
}

// triedOnce adds go-redis' own setting to a URL that does not have it.
func triedOnce(redisURL string) string {
	const setting = "max_retries="
	switch _, query, found := strings.Cut(redisURL, "?"); {
	case !found:
		return redisURL + "?" + setting + "-1"
	case strings.Contains(query, setting):
		return redisURL
	default:
		return redisURL + "&" + setting + "-1"
	}
}
