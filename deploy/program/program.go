// Package program says what the three programs do with an environment: which variables
// they know, where they listen and connect to, how long they drain. The checks of
// deploy/kubernetes and deploy/compose, modules of their own, compare that with what
// stands in their files.
package program

import (
	"os"
	"slices"
	"strings"
	"time"

	"sluice/bridge"
	"sluice/publisher"
	"sluice/shared/redisconn"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// Reserve is how much longer than its drain settings a program is given before it is
// killed: for answers in work, farewells, and a machine that is busy.
const Reserve = 10 * time.Second

// Program is one of them.
type Program struct {
	Command []string // in an image
	known   []worker.Setting
	load    func() (Facts, error) // from the environment
}

// Facts are what a program would do with its settings.
type Facts struct {
	Ports map[string]string // admin and http, to the address listened on
	Dials []string          // URLs that it connects to: NATS, Redis; several have commas
	Drain time.Duration     // from SIGTERM to the end
	Most  int               // streams and polls at once; 0: it has none

	// Of what a bridge stores: how much it may be, on how many NATS servers, and whether
	// in files.
	Bytes    int64
	Replicas int
	File     bool
}

// All of them, by name.
var All = map[string]Program{
	"bridge": of([]string{"/bridge"}, func(c bridge.Config) (Facts, error) {
		return Facts{
			Ports: map[string]string{"admin": c.Admin.Addr},
			Dials: []string{c.NATS.URL, c.Redis.URL},
			Bytes: c.Bridge.MaxBytes, Replicas: c.Bridge.Replicas, File: c.Bridge.Storage == "file",
		}, redisURL(c.Redis.URL)
	}),
	"ssenode": of([]string{"/ssenode"}, func(c ssenode.Config) (Facts, error) {
		return Facts{
			Ports: map[string]string{"admin": c.Admin.Addr, "http": c.SSENode.Addr},
			Dials: []string{c.NATS.URL},
			Drain: c.SSENode.DrainDelay + c.SSENode.DrainTime,
			Most:  c.SSENode.MaxConnections,
		}, nil
	}),
	"publisher": of([]string{"/publisher", "serve"}, func(c publisher.ServeConfig) (Facts, error) {
		return Facts{
			Ports: map[string]string{"admin": c.Admin.Addr, "http": c.Publisher.Addr},
			Dials: []string{c.NATS.URL, c.Redis.URL},
			Drain: c.Publisher.DrainDelay,
		}, redisURL(c.Redis.URL)
	}),
}

func of[C any](command []string, f func(C) (Facts, error)) Program {
	return Program{command, worker.Settings[C](), func() (Facts, error) {
		c, err := worker.Load[C]()
		if err != nil {
			return Facts{}, err
		}
		return f(c)
	}}
}

// redisURL reads REDIS_URL as a program does when it begins to connect.
func redisURL(url string) error {
	c, err := redisconn.Open(url, redisconn.Options{})
	if err != nil {
		return err
	}
	return c.Close()
}

// Knows tells whether a variable is one of its settings.
func (p Program) Knows(key string) bool {
	return slices.ContainsFunc(p.known, func(s worker.Setting) bool { return s.Key == key })
}

// Read gives the program this environment and no other. The error is what it would end
// with: a variable, its value, what is wrong. The process has another environment
// meanwhile, so nothing else may look at it.
func (p Program) Read(env map[string]string) (Facts, error) {
	old := os.Environ()
	set := func(key, value string) {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	os.Clearenv()
	defer func() {
		os.Clearenv()
		for _, kv := range old {
			key, value, _ := strings.Cut(kv, "=")
			set(key, value)
		}
	}()
	for key, value := range env {
		set(key, value)
	}
	return p.load()
}
