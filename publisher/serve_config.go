package publisher

import (
	"fmt"
	"net"
	"time"

	"sluice/shared/apikey"
	"sluice/shared/certs"
	"sluice/shared/natsconn"
	"sluice/shared/origin"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// ServeConfig is what `publisher serve` is started with; each field is an
// environment variable named by its path (REDIS_URL, PUBLISHER_MAX_BODY).
type ServeConfig struct {
	Log   worker.Log
	Admin struct {
		Addr string `default:"127.0.0.1:9103" desc:"address of health, metrics and pprof"`
	}
	Redis struct {
		URL string `default:"redis://127.0.0.1:6379" desc:"Redis to publish to"`
		certs.Client
	}
	NATS             natsconn.Settings
	Stream           wire.Stream
	BroadcastChannel string `split_words:"true" default:"sse:broadcast" desc:"channel that POST /broadcast publishes to"`
	ClientChannel    string `split_words:"true" default:"sse:channel:{clientId}" desc:"channel that POST /notify publishes to for a clientId"`
	GroupChannel     string `split_words:"true" default:"sse:group:{group}" desc:"channel that POST /notify publishes to for a group"`
	Publisher        Settings
}

// Settings is the group of settings that begins with PUBLISHER_.
type Settings struct {
	Addr        string        `default:"127.0.0.1:8090" desc:"address of the HTTP API"`
	APIKeys     apikey.Keys   `split_words:"true" desc:"bearer keys, one of which a request must have, separated by commas; without keys the API listens on loopback only"`
	Origins     origin.List   `desc:"origins of pages that may post, beside those of the same host, e.g. https://a.com,https://*.b.com"`
	NATS        bool          `default:"true" desc:"ask the nodes over NATS how many clients a message has, and take POST /revoke; false: recipients are null"`
	Rate        float64       `default:"5000" desc:"messages per second of each key (without keys: of all together), 0: no limit"`
	MaxItems    int           `split_words:"true" default:"500" desc:"messages in one POST /publish"`
	MaxPayload  int           `split_words:"true" default:"1048397" desc:"size of a payload in bytes; the default is what the bridge takes while NATS has its default max_payload"`
	MaxBody     int           `split_words:"true" default:"2097152" desc:"size of a request's body in bytes"`
	Connections int           `default:"256" desc:"connections at once; each may hold a body in memory"`
	ReadTimeout time.Duration `split_words:"true" default:"10s" desc:"time a client has to send its request"`
	DrainDelay  time.Duration `split_words:"true" default:"5s" desc:"after SIGTERM: time for the balancer to notice"`
}

// Validate checks values that parse but cannot work; errors name the setting
// and the value.
func (c *ServeConfig) Validate() error {
	p := &c.Publisher
	if err := p.APIKeys.Validate("PUBLISHER_API_KEYS"); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(p.Addr)
	if err != nil {
		return fmt.Errorf("PUBLISHER_ADDR=%q: want an address such as 127.0.0.1:8090", p.Addr)
	}
	if p.APIKeys.Len() == 0 {
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return needsKeys(p.Addr)
		}
		if p.Origins.Any() {
			return fmt.Errorf("PUBLISHER_ORIGINS=* without PUBLISHER_API_KEYS: any page that is open on this machine could publish; name the origins, or set keys")
		}
	}
	for _, n := range []struct {
		key           string
		val, min, max int
	}{
		{"PUBLISHER_MAX_ITEMS", p.MaxItems, 1, 100_000},
		{"PUBLISHER_MAX_PAYLOAD", p.MaxPayload, 1, redisLimit},
		{"PUBLISHER_MAX_BODY", p.MaxBody, 1 << 10, redisLimit},
		{"PUBLISHER_CONNECTIONS", p.Connections, 1, 1 << 20},
	} {
		if n.val < n.min || n.val > n.max {
			return fmt.Errorf("%s=%d: want %d to %d", n.key, n.val, n.min, n.max)
		}
	}
	switch {
	case p.MaxBody < p.MaxPayload:
		return fmt.Errorf("PUBLISHER_MAX_BODY=%d is less than PUBLISHER_MAX_PAYLOAD=%d: such a payload could never come", p.MaxBody, p.MaxPayload)
	case !(p.Rate >= 0 && p.Rate <= maxRate): // written so that NaN is refused too
		return fmt.Errorf("PUBLISHER_RATE=%v: want 0 (no limit) to %.0f messages per second", p.Rate, maxRate)
	case p.ReadTimeout < 10*time.Millisecond || p.ReadTimeout > time.Hour:
		return fmt.Errorf("PUBLISHER_READ_TIMEOUT=%s: want 10ms to 1h", p.ReadTimeout)
	case p.DrainDelay < 0 || p.DrainDelay > time.Hour:
		return fmt.Errorf("PUBLISHER_DRAIN_DELAY=%s: want 0s to 1h", p.DrainDelay)
	}
	if p.NATS {
		if err := checkNATS(c.NATS, c.Stream); err != nil {
			return err
		}
	}
	_, err = newPlaces(c)
	return err
}

func needsKeys(addr string) error {
	return fmt.Errorf("PUBLISHER_ADDR=%q without PUBLISHER_API_KEYS: everyone who reaches the port could publish; "+
		"set PUBLISHER_API_KEYS, or PUBLISHER_ADDR to a loopback address such as 127.0.0.1:8090", addr)
}
