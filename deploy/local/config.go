package main

import (
	"fmt"
	"slices"
	"strings"

	"sluice/publisher"
	"sluice/shared/route"
)

// config is what the local run is started with.
type config struct {
	Log struct {
		Level  string `default:"warn" desc:"debug, info, warn or error"`
		Format string `default:"text" desc:"text or json"`
	}
	Redis struct {
		URL string `desc:"use this Redis instead of the embedded one"`
	}
	NATS struct {
		URL string `desc:"use this NATS (with JetStream) instead of the embedded one"`
	}
	Routes route.Table `default:"game:> history=off; alerts:> priority=high; trivia:> priority=low" desc:"what is special about which channels, for the bridge and the nodes"`
	Local  struct {
		Addr      string  `default:":8080" desc:"address of the demo page and of the front of all nodes"`
		RedisAddr string  `split_words:"true" default:"127.0.0.1:6379" desc:"address of the embedded Redis"`
		NATSAddr  string  `split_words:"true" default:"127.0.0.1:4222" desc:"address of the embedded NATS"`
		Nodes     int     `default:"2" desc:"SSE nodes, 1 to 16"`
		Auth      string  `default:"auto" desc:"whether only who is signed in reads user:…: on, off, or auto (on while the embedded Redis plays all, orders or notifications)"`
		Simulate  string  `default:"race,leaderboard,auction,game,bills,orders,chat,stocks,items,notices,alerts,dashboards,news,jobs" desc:"scenarios played for the demo page, all or none"`
		Rate      float64 `default:"3" desc:"events per second of each scenario"`
	}

	scenarios []string // of LOCAL_SIMULATE, once it was validated
	auth      bool     // of LOCAL_AUTH, likewise
}

// Validate checks values that parse but cannot work.
func (c *config) Validate() error {
	if c.Local.Nodes < 1 || c.Local.Nodes > 16 {
		return fmt.Errorf("LOCAL_NODES=%d: want 1 to 16", c.Local.Nodes)
	}
	c.scenarios = nil
	if c.Local.Simulate != "none" {
		for name := range strings.SplitSeq(c.Local.Simulate, ",") {
			known := publisher.AllScenarios
			for _, s := range publisher.Scenarios() {
				known += ", " + s.Name
			}
			if name = strings.TrimSpace(name); name == "" || !slices.Contains(strings.Split(known, ", "), name) {
				return fmt.Errorf("LOCAL_SIMULATE=%q: %q is no scenario: want none or %s, separated by commas", c.Local.Simulate, name, known)
			}
			c.scenarios = append(c.scenarios, name)
		}
	}
	switch c.Local.Auth {
	case "on", "off":
		c.auth = c.Local.Auth == "on"
	case "auto":
		c.auth = c.Redis.URL == "" && slices.ContainsFunc(c.scenarios, func(name string) bool {
			return slices.Contains([]string{publisher.AllScenarios, "orders", "notifications"}, name)
		})
	default:
		return fmt.Errorf("LOCAL_AUTH=%q: want on, off or auto", c.Local.Auth)
	}
	if c.Local.Rate <= 0 || c.Local.Rate > 1000 {
		return fmt.Errorf("LOCAL_RATE=%g: want more than 0 and at most 1000", c.Local.Rate)
	}
	return nil
}
