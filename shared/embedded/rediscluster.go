package embedded

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterSlots    = 16384
	clusterPatience = 30 * time.Second
)

// RedisCluster is several Redis servers that share the slots, each a process.
type RedisCluster struct {
	Servers []*Process // the masters of the start, then what Replica has added
	clients map[*Process]*redis.Client
	buses   map[*Process]int // ports of the cluster bus
}

// TestRedisCluster starts so many masters for the test, with equal shares of the
// slots, and returns once all of them say that the Cluster is up. A server is
// held to be dead after a second. Like NeedProgram it skips the test where there
// is no redis-server. args are for every server.
func TestRedisCluster(tb testing.TB, masters int, args ...string) *RedisCluster {
	tb.Helper()
	NeedProgram(tb, "redis-server")
	c := &RedisCluster{clients: map[*Process]*redis.Client{}, buses: map[*Process]int{}}
	for i := range masters {
		p := c.start(tb, args)
		r := c.clients[p]
		must(tb, r.Do(tb.Context(), "cluster", "set-config-epoch", i+1).Err())
		must(tb, r.ClusterAddSlotsRange(tb.Context(), i*clusterSlots/masters, (i+1)*clusterSlots/masters-1).Err())
		c.meet(tb, p)
	}
	c.ready(tb)
	return c
}

func (c *RedisCluster) start(tb testing.TB, args []string) *Process {
	tb.Helper()
	dir, bus := tb.TempDir(), 0
	p, err := startRedis(tb.Context(), withSecondPort(tb, func(port, second int) []string {
		bus = second // the default, port+10000, need not be free nor a port
		return append(append(redisArgs(port, dir), "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
			"--cluster-port", strconv.Itoa(bus), "--cluster-announce-ip", "127.0.0.1", "--repl-diskless-sync-delay", "0"), args...)
	}))
	ended(tb, p, err)
	c.Servers = append(c.Servers, p)
	c.clients[p], c.buses[p] = TestRedisClient(tb, p), bus
	return p
}

// meet makes p known to the others.
func (c *RedisCluster) meet(tb testing.TB, p *Process) {
	tb.Helper()
	if first := c.Servers[0]; p != first {
		must(tb, c.clients[first].Do(tb.Context(), "cluster", "meet", "127.0.0.1", p.port, c.buses[p]).Err())
	}
}

// ready waits until all servers that run know all, and that all slots are served.
func (c *RedisCluster) ready(tb testing.TB) {
	tb.Helper()
	waitFor(tb, "the Cluster is up", clusterPatience, func(ctx context.Context) error {
		for p, r := range c.clients {
			if p.Pid() == 0 {
				continue
			}
			info, err := r.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Servers))) {
				return fmt.Errorf("%s: %s", p.Addr(), info)
			}
		}
		return nil
	})
}

// URL names all servers.
func (c *RedisCluster) URL() string {
	url := "redis+cluster://" + c.Servers[0].Addr()
	for i, p := range c.Servers[1:] {
		url += string("?&"[min(i, 1)]) + "addr=" + p.Addr()
	}
	return url
}

// Client is connected to one of the servers.
func (c *RedisCluster) Client(p *Process) *redis.Client { return c.clients[p] }

// Owner waits until all servers that run agree on the master that has the
// channel's slot, which runs, and returns it.
func (c *RedisCluster) Owner(tb testing.TB, channel string) (owner *Process) {
	tb.Helper()
	waitFor(tb, "the servers agree on the owner of "+channel, clusterPatience, func(ctx context.Context) error {
		named := ""
		for p, r := range c.clients {
			if p.Pid() == 0 {
				continue
			}
			addr, err := ownerBy(ctx, r, channel)
			if err != nil {
				return err
			}
			if named != "" && addr != named {
				return fmt.Errorf("one says %s, another %s", named, addr)
			}
			named = addr
		}
		for _, p := range c.Servers {
			if p.Addr() == named && p.Pid() != 0 {
				owner = p
				return nil
			}
		}
		return fmt.Errorf("it is %q, which does not run", named)
	})
	return owner
}

func ownerBy(ctx context.Context, r *redis.Client, channel string) (string, error) {
	slot, err := r.ClusterKeySlot(ctx, channel).Result()
	if err != nil {
		return "", err
	}
	//lint:ignore SA1019 the answer of CLUSTER SHARDS has no such order
	ranges, err := r.ClusterSlots(ctx).Result()
	if err != nil {
		return "", err
	}
	for _, s := range ranges {
		if s.Start <= int(slot) && int(slot) <= s.End && len(s.Nodes) > 0 {
			return s.Nodes[0].Addr, nil
		}
	}
	return "", fmt.Errorf("nobody has slot %d", slot)
}

// Move gives the channel's slot, which must be empty, to the master to, and
// returns once all know.
func (c *RedisCluster) Move(tb testing.TB, channel string, to *Process) {
	tb.Helper()
	from := c.Owner(tb, channel)
	ctx := tb.Context()
	id, err := c.clients[to].Do(ctx, "cluster", "myid").Text()
	must(tb, err)
	slot, err := c.clients[to].ClusterKeySlot(ctx, channel).Result()
	must(tb, err)
	fromID, err := c.clients[from].Do(ctx, "cluster", "myid").Text()
	must(tb, err)
	must(tb, c.clients[to].Do(ctx, "cluster", "setslot", slot, "importing", fromID).Err())
	must(tb, c.clients[from].Do(ctx, "cluster", "setslot", slot, "migrating", id).Err())
	for _, p := range []*Process{to, from} {
		must(tb, c.clients[p].Do(ctx, "cluster", "setslot", slot, "node", id).Err())
	}
	if now := c.Owner(tb, channel); now != to {
		tb.Fatalf("slot %d is with %s, want %s", slot, now.Addr(), to.Addr())
	}
}

// Replica starts a replica of the master, which takes its place when it is
// killed. args as for TestRedisCluster.
func (c *RedisCluster) Replica(tb testing.TB, master *Process, args ...string) *Process {
	tb.Helper()
	p := c.start(tb, args)
	c.meet(tb, p)
	c.ready(tb)
	id, err := c.clients[master].Do(tb.Context(), "cluster", "myid").Text()
	must(tb, err)
	waitFor(tb, "the replica is up to date", clusterPatience, func(ctx context.Context) error {
		if err := c.clients[p].Do(ctx, "cluster", "replicate", id).Err(); err != nil {
			return err // it does not know the master yet
		}
		info, err := c.clients[p].Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("%s", info)
		}
		return err
	})
	return p
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
