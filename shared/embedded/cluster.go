package embedded

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATSCluster is several NATS servers with JetStream that know each other, each
// a process that can be killed, stalled and started again.
type NATSCluster struct {
	Servers []*Process
	nc      *nats.Conn
	js      jetstream.JetStream
}

// TestNATSCluster starts n servers for the test and returns once they have
// chosen who leads them, 30 s at most. args are added to the command lines, for
// instance "--no_advertise" where clients must not find servers by themselves.
func TestNATSCluster(tb testing.TB, n int, args ...string) *NATSCluster {
	tb.Helper()
	var routes []string
	for range n {
		port, release, err := holdPort()
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(release)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	c := &NATSCluster{}
	for _, route := range routes {
		// The servers are alike: which of them leads is chance.
		c.Servers = append(c.Servers, TestNATSProcess(tb, NATSProcessOptions{Args: append([]string{
			"--cluster_name", "sluice", "--cluster", route, "--routes", strings.Join(routes, ","),
		}, args...)}))
	}
	var err error
	c.nc, err = nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.nc.Close)
	if c.js, err = jetstream.New(c.nc); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_, err = c.js.AccountInfo(one)
		cancel()
		if err == nil {
			return c
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			tb.Fatalf("the servers have not found each other: %v", err)
		}
	}
}

// URL names all servers.
func (c *NATSCluster) URL() string {
	var urls []string
	for _, p := range c.Servers {
		urls = append(urls, p.URL())
	}
	return strings.Join(urls, ",")
}

// Roles returns who leads the stream and who follows, once all of them are up
// to date; an error when ctx ends before.
func (c *NATSCluster) Roles(ctx context.Context, stream string) (leader *Process, followers []*Process, err error) {
	err = c.poll(ctx, stream, func() (err error) {
		leader, followers, err = c.roles(ctx, stream)
		return err
	})
	return leader, followers, err
}

// Elected waits until the stream is led by another server than this one, which has died:
// one that keeps the stream in memory comes back without its log, and with its vote a
// follower could win that is behind. What that one lacks would be lost.
func (c *NATSCluster) Elected(ctx context.Context, stream string, dead *Process) error {
	return c.poll(ctx, stream, func() error {
		info, err := c.info(ctx, stream)
		if err == nil && (info.Leader == "" || info.Leader == dead.label) {
			err = fmt.Errorf("nobody leads: %+v", info)
		}
		return err
	})
}

// poll tries until there is no error, or ctx ends.
func (c *NATSCluster) poll(ctx context.Context, stream string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stream %s: %w (%w)", stream, ctx.Err(), err)
		}
	}
}

// info is how the servers share the stream, within a second.
func (c *NATSCluster) info(ctx context.Context, stream string) (*jetstream.ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo().Cluster
	if info == nil || len(info.Replicas) != len(c.Servers)-1 {
		return nil, fmt.Errorf("not on all servers: %+v", info)
	}
	return info, nil
}

func (c *NATSCluster) roles(ctx context.Context, stream string) (leader *Process, followers []*Process, err error) {
	info, err := c.info(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	leader = c.named(info.Leader)
	for _, r := range info.Replicas {
		if !r.Current || r.Offline {
			return nil, nil, fmt.Errorf("%s is not up to date", r.Name)
		}
		followers = append(followers, c.named(r.Name))
	}
	if leader == nil {
		return nil, nil, fmt.Errorf("nobody leads: %+v", info)
	}
	return leader, followers, nil
}

func (c *NATSCluster) named(name string) *Process {
	for _, p := range c.Servers {
		if p.label == name {
			return p
		}
	}
	return nil
}
