package ssenode

import (
	"fmt"
	"os"
	"regexp"
	"time"

	"sluice/shared/natsconn"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
	"sluice/ssenode/limits"
)

// Config is what a node is started with; each field is an environment variable
// named by its path (NATS_URL, SSENODE_RING_BYTES).
type Config struct {
	Log   worker.Log
	Admin struct {
		Addr string `default:"127.0.0.1:9102" desc:"address of health, metrics and pprof"`
	}
	NATS    natsconn.Settings
	Stream  wire.Stream
	Routes  route.Table `desc:"what is special about which channels, e.g. game:> history=off; bills format=raw"`
	SSENode Settings
}

// Settings is the group of settings that begins with SSENODE_.
type Settings struct {
	Addr        string `default:":8081" desc:"address that browsers connect to"`
	Name        string `desc:"name of this node in connected events (default: the host name)"`
	Engine      string `default:"auto" desc:"how sockets are driven: auto, epoll (Linux) or portable"`
	Loops       int    `default:"0" desc:"socket loops, 0: one for each processor, at most 8"`
	TLS         TLSSettings
	Endpoints   Endpoints     `desc:"further paths with channels by template, e.g. /getBillStatus=billStatusChannel"`
	MaxChannels int           `split_words:"true" default:"256" desc:"channels and patterns on one connection"`
	Heartbeat   time.Duration `default:"30s" desc:"at most this long between two heartbeats, 0: none"`
	MaxAge      time.Duration `split_words:"true" default:"0s" desc:"streams are closed when they are so old, jittered by a fifth, so that new nodes fill; 0: never"`
	Retry       time.Duration `default:"2s" desc:"how long a browser waits before it reconnects, jittered by a quarter"`
	Linger      time.Duration `default:"5s" desc:"how long a subscription outlives its last client"`
	HeadTimeout time.Duration `split_words:"true" default:"10s" desc:"time a client has to send its request"`
	StuckAfter  time.Duration `split_words:"true" default:"60s" desc:"a client that takes nothing for so long is closed"`
	BehindAfter time.Duration `split_words:"true" default:"5s" desc:"a client that is behind for so long skips the priority=low channels to their newest"`
	RingBytes   int64         `split_words:"true" default:"1048576" desc:"recent events kept for a channel, in bytes"`
	RingTotal   int64         `split_words:"true" default:"268435456" desc:"recent events kept for all channels, in bytes"`
	RingAge     time.Duration `split_words:"true" default:"30s" desc:"recent events are kept for so long"`
	DrainDelay  time.Duration `split_words:"true" default:"5s" desc:"after SIGTERM: time for the balancer to notice"`
	DrainTime   time.Duration `split_words:"true" default:"20s" desc:"after the delay: streams are closed evenly over this time"`
	limits.Bounds
	auth.Settings
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

// Validate checks values that parse but cannot work; errors name the setting
// and the value.
func (c *Config) Validate() error {
	s := &c.SSENode
	if s.Name == "" {
		s.Name, _ = os.Hostname()
		if !nodeName.MatchString(s.Name) {
			s.Name = "node"
		}
	}
	if !nodeName.MatchString(s.Name) {
		return fmt.Errorf("SSENODE_NAME=%q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", s.Name)
	}
	for _, d := range []struct {
		key      string
		val, min time.Duration
	}{
		{"SSENODE_RETRY", s.Retry, time.Millisecond},
		{"SSENODE_LINGER", s.Linger, 0},
		{"SSENODE_HEAD_TIMEOUT", s.HeadTimeout, time.Millisecond},
		{"SSENODE_STUCK_AFTER", s.StuckAfter, engine.TickEvery},
		{"SSENODE_BEHIND_AFTER", s.BehindAfter, engine.TickEvery},
		{"SSENODE_RING_AGE", s.RingAge, engine.TickEvery},
		{"SSENODE_DRAIN_DELAY", s.DrainDelay, 0},
		{"SSENODE_DRAIN_TIME", s.DrainTime, 0},
	} {
		if d.val < d.min {
			return fmt.Errorf("%s=%s: want at least %s", d.key, d.val, d.min)
		}
	}
	for _, d := range []struct {
		key           string
		val, min, max time.Duration
	}{
		{"SSENODE_HEARTBEAT", s.Heartbeat, engine.TickEvery, 24 * time.Hour}, // a list for each tick of it
		{"SSENODE_MAX_AGE", s.MaxAge, time.Second, 365 * 24 * time.Hour},
	} {
		if d.val != 0 && (d.val < d.min || d.val > d.max) {
			return fmt.Errorf("%s=%s: want 0 (none) or %s to %s", d.key, d.val, d.min, d.max)
		}
	}
	for _, n := range []struct {
		key           string
		val, min, max int64
	}{
		{"SSENODE_LOOPS", int64(s.Loops), 0, 256},
		{"SSENODE_MAX_CHANNELS", int64(s.MaxChannels), 1, 4096},
		{"SSENODE_RING_BYTES", s.RingBytes, 0, 1 << 40},
		{"SSENODE_RING_TOTAL", s.RingTotal, 0, 1 << 40},
	} {
		if n.val < n.min || n.val > n.max {
			return fmt.Errorf("%s=%d: want %d to %d", n.key, n.val, n.min, n.max)
		}
	}
	if err := s.Bounds.Validate(); err != nil {
		return err
	}
	if err := s.validateTLS(); err != nil {
		return err
	}
	if err := s.Settings.Validate(); err != nil {
		return err
	}
	if err := c.Stream.Validate(); err != nil {
		return err
	}
	return c.NATS.Validate()
}
