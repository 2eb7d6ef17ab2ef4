// Package publisher puts messages into Redis channels: one by hand (send), many as
// the publishers of today's apps do (simulate), or what others post to it over HTTP
// (serve). What they publish goes to Redis, with plain PUBLISH, and so stands where any
// app's own publisher stands: it takes the same way to the browsers. NATS is only asked
// who listens, and told what is revoked.
package publisher

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"sluice/shared/certs"
	"sluice/shared/natsconn"
	"sluice/shared/redisconn"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// Config is what send and simulate read from the environment.
type Config struct {
	Redis struct {
		URL string `default:"redis://127.0.0.1:6379" desc:"Redis to publish to"`
		certs.Client
	}
	NATS   natsconn.Settings // as Stream only for revoke
	Stream wire.Stream
	Log    worker.Log
}

// Open returns a client as publishing needs it: a command is tried once. When a
// connection breaks before the answer has come, nobody knows whether Redis did
// publish; trying again would show some messages twice to every browser. files are
// REDIS_CA, REDIS_CERT and REDIS_KEY.
func Open(redisURL string, files certs.Client) (redis.UniversalClient, error) {
	return redisconn.Open(triedOnce(redisURL), redisconn.Options{Worker: "publisher", TLS: files})
}

// Rights are the ACL rules that a publisher's user needs in Redis; in a Cluster
// +cluster, too. The channels may be fewer.
const Rights = "+publish +ping &*"

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
