package redisconn

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// newCluster is a client for publishing in a Cluster.
func newCluster(p *place) *redis.ClusterClient {
	o := p.universal().Cluster()
	// Here go-redis retries on its own, at the same server and then at others,
	// and counts that as redirects.
	if o.MaxRedirects = o.MaxRetries + 1; o.MaxRetries < 0 {
		o.MaxRedirects = -1
	}
	o.MaxRetries = -1
	// They need the right to COMMAND, and are for commands that we do not use.
	o.DisableRoutingPolicies = true
	c := redis.NewClusterClient(o)
	c.AddHook(oneWay{c})
	return c
}

// oneWay publishes all messages of a channel at the server that owns its slot.
// go-redis would take a random one for each, and Redis keeps the order only of
// what comes in at one server.
type oneWay struct{ c *redis.ClusterClient }

func (oneWay) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w oneWay) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		direct(cmd)
		err := next(ctx, cmd)
		w.look(ctx, err)
		return err
	}
}

func (w oneWay) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			direct(cmd)
		}
		err := next(ctx, cmds)
		w.look(ctx, err)
		return err
	}
}

func direct(cmd redis.Cmder) {
	if cmd.Name() == "publish" {
		cmd.SetFirstKeyPos(1)
	}
}

// look asks the Cluster anew who owns what when a server does not answer.
// go-redis does so only once a minute, or when a server says MOVED, which
// PUBLISH never makes it say.
func (w oneWay) look(ctx context.Context, err error) {
	if err != nil && !IsAnswer(err) {
		w.c.ReloadState(ctx)
	}
}
