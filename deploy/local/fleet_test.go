package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/bridge"
	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/route"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// fleet is a bridge and three nodes in this process, each node behind a hop of
// its own to NATS that a test can cut.
type fleet struct {
	t      testing.TB
	client redis.UniversalClient
	nodes  []*ssenode.Node
	hops   []*embedded.Proxy
	pad    string       // at the end of each message
	large  atomic.Int32 // how many of the next messages end with largePad instead
}

// roamRoutes keep enough for clients that are away for as long as a server.
var roamRoutes, _ = route.Parse("roam:> history=50000/10m")

// newFleet starts it all. One NATS server is put behind hops.
func newFleet(t testing.TB, nats interface{ URL() string }, change func(*bridge.Config)) *fleet {
	t.Helper()
	f := &fleet{t: t}
	redisServer := embedded.TestRedis(t)
	var err error
	if f.client, err = redisconn.Open(redisServer.URL(), redisconn.Options{Worker: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.client.Close() })
	for i := range 3 {
		c := worker.Default[ssenode.Config]()
		c.Admin.Addr, c.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		c.SSENode.Name = fmt.Sprint("n", i+1)
		c.SSENode.DrainDelay, c.SSENode.DrainTime = 0, 0
		c.SSENode.Linger = 200 * time.Millisecond // channels come and go
		c.SSENode.RingBytes = 8 << 10             // and are soon only in the stream
		c.SSENode.Heartbeat = time.Second
		c.NATS.URL = nats.URL()
		if server, one := nats.(interface{ Addr() string }); one {
			hop := embedded.TestProxy(t, server.Addr())
			f.hops = append(f.hops, hop)
			c.NATS.URL = "nats://" + hop.Addr()
		}
		c.Routes = *roamRoutes
		n, err := ssenode.New(c, embedded.TestLog(t))
		if err != nil {
			t.Fatal(err)
		}
		embedded.TestRun(t, n.Run)
		f.nodes = append(f.nodes, n)
	}
	c := worker.Default[bridge.Config]()
	c.Admin.Addr = "127.0.0.1:0"
	c.Redis.URL, c.NATS.URL = redisServer.URL(), nats.URL()
	c.Bridge.Pulse = 250 * time.Millisecond
	c.Routes = *roamRoutes
	if change != nil {
		change(&c)
	}
	b, err := bridge.New(c, embedded.TestLog(t))
	if err != nil {
		t.Fatal(err)
	}
	embedded.TestRun(t, b.Run)
	for _, n := range f.nodes {
		until(t, "a node is ready", func() bool {
			code, _ := fetch(t, "http://"+n.AdminAddr().String()+"/readyz")
			return code == 200
		})
	}
	return f
}

// addrs are where clients connect.
func (f *fleet) addrs() (all []string) {
	for _, n := range f.nodes {
		all = append(all, n.Addr().String())
	}
	return all
}
