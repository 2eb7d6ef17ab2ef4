package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinelPatience is how long a failover may take in a test. It takes about 2 s.
const sentinelPatience = 30 * time.Second

// RedisSentinel is a Redis master with a replica, and three sentinels that watch
// them, each a process.
type RedisSentinel struct {
	Name      string     // of the master, for the sentinels
	Servers   []*Process // the master of the start, its replica
	Sentinels []*Process
	clients   map[*Process]*redis.Client
}

// TestRedisSentinel starts them for the test and returns once the sentinels know
// each other and the replica. A master is held to be dead after a second. Like
// NeedProgram it skips the test where there is no redis-server. args are for the
// two servers.
func TestRedisSentinel(tb testing.TB, args ...string) *RedisSentinel {
	tb.Helper()
	// The default waits 5 s for more replicas.
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	r := &RedisSentinel{Name: "sluice", clients: map[*Process]*redis.Client{}}
	master := TestRedisProcess(tb, args...)
	port := strconv.Itoa(master.port)
	r.Servers = []*Process{master, TestRedisProcess(tb, args...)}
	for _, p := range r.Servers {
		r.clients[p] = TestRedisClient(tb, p)
	}
	// Not on the command line: when it is started again, it is a master as any.
	must(tb, r.clients[r.Servers[1]].Do(tb.Context(), "replicaof", "127.0.0.1", port).Err())
	config := fmt.Sprintf(`sentinel monitor %[1]s 127.0.0.1 %[2]s 2
sentinel down-after-milliseconds %[1]s 1000
sentinel failover-timeout %[1]s 5000
`, r.Name, port)
	for range 3 {
		dir := tb.TempDir()
		file := filepath.Join(dir, "sentinel.conf") // it is rewritten by the sentinel
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			tb.Fatal(err)
		}
		p, err := startRedis(tb.Context(), func(port int) []string {
			return []string{file, "--sentinel", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir}
		})
		r.Sentinels = append(r.Sentinels, ended(tb, p, err))
		r.clients[p] = TestRedisClient(tb, p)
	}
	r.wait(tb, "the sentinels know each other and the replica", r.known)
	return r
}

// known also makes the sentinels talk to each other more often than every 2 s,
// and look at the replicas more often than every 10 s.
func (r *RedisSentinel) known(ctx context.Context) error {
	if info, err := r.clients[r.Servers[1]].Info(ctx, "replication").Result(); err != nil || !strings.Contains(info, "master_link_status:up") {
		return fmt.Errorf("the replica has no master yet: %w", err)
	}
	for _, p := range r.Sentinels {
		// From Redis 7.0 on; without it all takes longer.
		r.clients[p].Do(ctx, "sentinel", "debug", "publish-period", "200", "info-period", "500", "ask-period", "200")
		info, err := r.clients[p].Info(ctx, "sentinel").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "status=ok") || !strings.Contains(info, "slaves=1,sentinels=3") {
			return errors.New(info)
		}
	}
	return nil
}

// URL names all sentinels and the master's name.
func (r *RedisSentinel) URL() string {
	url := r.Sentinels[0].URL() + "?master_name=" + r.Name
	for _, p := range r.Sentinels[1:] {
		url += "&addr=" + p.Addr()
	}
	return url
}

// Client is connected to one of the servers or sentinels.
func (r *RedisSentinel) Client(p *Process) *redis.Client { return r.clients[p] }

// Master waits until all sentinels that run name the same server, which itself
// says that it is the master.
func (r *RedisSentinel) Master(tb testing.TB) *Process { tb.Helper(); return r.NewMaster(tb, nil) }

// NewMaster does so until it is another one than old.
func (r *RedisSentinel) NewMaster(tb testing.TB, old *Process) (master *Process) {
	tb.Helper()
	r.wait(tb, "the sentinels agree on a master", func(ctx context.Context) (err error) {
		master, err = r.master(ctx)
		if err == nil && master == old {
			err = fmt.Errorf("it is still %s", old.Addr())
		}
		return err
	})
	return master
}

func (r *RedisSentinel) master(ctx context.Context) (*Process, error) {
	var named string
	for _, p := range r.Sentinels {
		if p.Pid() == 0 {
			continue
		}
		answer, err := r.clients[p].Do(ctx, "sentinel", "get-master-addr-by-name", r.Name).StringSlice()
		if err != nil {
			return nil, err
		}
		addr := strings.Join(answer, ":")
		if named != "" && addr != named {
			return nil, fmt.Errorf("one says %s, another %s", named, addr)
		}
		named = addr
	}
	for _, p := range r.Servers {
		if p.Addr() != named {
			continue
		}
		if p.Pid() == 0 {
			return nil, fmt.Errorf("%s does not run", named)
		}
		if role, err := r.clients[p].Do(ctx, "role").Slice(); err != nil || role[0] != "master" {
			return nil, fmt.Errorf("%s is not yet the master: %w", named, err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("they name %q", named)
}

// Failover makes the sentinels change places of master and replica, both alive,
// and returns the new master.
func (r *RedisSentinel) Failover(tb testing.TB) *Process {
	tb.Helper()
	old := r.Master(tb)
	r.wait(tb, "a sentinel begins a failover", func(ctx context.Context) error {
		// Refused while a former one is not over.
		return r.clients[r.Sentinels[0]].Do(ctx, "sentinel", "failover", r.Name).Err()
	})
	return r.NewMaster(tb, old)
}

func (r *RedisSentinel) wait(tb testing.TB, what string, ok func(context.Context) error) {
	tb.Helper()
	waitFor(tb, what, sentinelPatience, ok)
}

// waitFor is Eventually with a reason, and a look only every 50 ms: each is a
// question to a server.
func waitFor(tb testing.TB, what string, patience time.Duration, ok func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(ctx, time.Second)
		err := ok(one)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			tb.Fatalf("waited %s in vain: %s: %v", patience, what, err)
		}
	}
}
