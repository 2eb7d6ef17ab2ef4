package bridge

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sluice/shared/certs"
	"sluice/shared/natsconn"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// Config is what a bridge is started with; each field is an environment
// variable named by its path (NATS_URL, BRIDGE_MAX_BYTES).
type Config struct {
	Log   worker.Log
	Admin struct {
		Addr string `default:"127.0.0.1:9101" desc:"address of health, metrics and pprof"`
	}
	Redis struct {
		URL string `default:"redis://127.0.0.1:6379" desc:"Redis server to mirror"`
		certs.Client
	}
	NATS   natsconn.Settings
	Stream wire.Stream
	Routes route.Table `desc:"what is special about which channels, e.g. game:> history=off; auction:* history=500/5m"`
	Bridge Settings
}

// Settings is the group of settings that begins with BRIDGE_.
type Settings struct {
	Patterns   Patterns      `default:"*" desc:"Redis channels to mirror: globs and names, separated by commas (a comma in one: %2C)"`
	Storage    string        `default:"memory" desc:"where the stream keeps events: memory or file"`
	Replicas   int           `default:"1" desc:"NATS servers that keep each event, 1 to 5"`
	MaxBytes   int64         `split_words:"true" default:"1073741824" desc:"size of the stream; at most 40 % of the account's JetStream memory is taken"`
	QueueBytes int64         `split_words:"true" default:"67108864" desc:"messages from Redis that wait for NATS, in bytes"`
	Pulse      time.Duration `default:"500ms" desc:"time between two pulses"`
}

// Bounds of settings.
const (
	minPulse = 50 * time.Millisecond
	maxPulse = time.Second
	minBytes = 1 << 20
)

// Validate checks values that parse but cannot work; errors name the setting
// and the value.
func (c *Config) Validate() error {
	b := &c.Bridge
	switch {
	case b.Storage != "memory" && b.Storage != "file":
		return fmt.Errorf("BRIDGE_STORAGE=%q: want memory or file", b.Storage)
	case b.Replicas < 1 || b.Replicas > 5:
		return fmt.Errorf("BRIDGE_REPLICAS=%d: want 1 to 5", b.Replicas)
	case b.MaxBytes < minBytes:
		return fmt.Errorf("BRIDGE_MAX_BYTES=%d: want at least %d", b.MaxBytes, minBytes)
	case b.QueueBytes < minBytes:
		return fmt.Errorf("BRIDGE_QUEUE_BYTES=%d: want at least %d", b.QueueBytes, minBytes)
	case b.Pulse < minPulse || b.Pulse > maxPulse:
		return fmt.Errorf("BRIDGE_PULSE=%s: want %s to %s", b.Pulse, minPulse, maxPulse)
	case len(b.Patterns.list) == 0:
		return fmt.Errorf("BRIDGE_PATTERNS is empty: want Redis globs or channel names, * for all")
	}
	if err := c.Stream.Validate(); err != nil {
		return err
	}
	return c.NATS.Validate()
}

// Patterns is the value of BRIDGE_PATTERNS: in its order, without repetitions.
type Patterns struct{ list []entry }

// entry is one Redis glob, or the name of one channel.
type entry struct {
	text string
	glob bool
}

// Decode parses the setting's value. An entry with *, ? or [ is a glob, any
// other an exact channel; %2C and %25 stand for a comma and a percent sign.
func (p *Patterns) Decode(value string) error {
	var list []entry
	seen := map[entry]bool{}
	for text := range strings.SplitSeq(value, ",") {
		text = strings.NewReplacer("%2C", ",", "%2c", ",", "%25", "%").Replace(strings.TrimSpace(text))
		if text == "" {
			continue
		}
		e := entry{text, strings.ContainsAny(text, "*?[")}
		if !seen[e] {
			seen[e] = true
			list = append(list, e)
		}
	}
	p.list = list
	return nil
}

// Spec says how the command starts a bridge.
func Spec() worker.Spec[Config] {
	return worker.Spec[Config]{
		Name:  "bridge",
		About: "mirrors Redis pub/sub channels into NATS",
		Log:   func(c *Config) worker.Log { return c.Log },
		New:   func(c Config, log *slog.Logger) (worker.Worker, error) { return New(c, log) },
	}
}
