package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// escortLimit bounds one publication of a nonce.
const escortLimit = time.Second

// escort publishes nonces while the bridge leads, and looks whether they come back.
// It ends with the context.
func (s *source) escort(ctx context.Context, l *subscription) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.nonces.kick:
		case <-ctx.Done():
			return
		}
		if s.linked() && s.sink.leading() {
			one, cancel := context.WithTimeout(ctx, escortLimit)
			s.nonces.publish(one, l.server.Client, s.log)
			cancel()
		}
		if err := s.nonces.overdue(); err != nil {
			l.stop(err)
			return
		}
	}
}

// check looks whether the server is still the right one. It ends with the context.
func (s *source) check(ctx context.Context, l *subscription) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := s.home.Check(ctx, l.server); err != nil && ctx.Err() == nil {
			l.stop(err)
			return
		}
	}
}

// openShards subscribes, at the masters of a Cluster, the channels named in the plan:
// SPUBLISH reaches only those, and only by name. (PUBLISH does not reach them, so
// nothing comes twice.)
func (s *source) openShards(ctx context.Context, stop context.CancelCauseFunc) (list []*subscription, err error) {
	if !s.shards() {
		return nil, nil
	}
	shards, err := s.home.Shards(ctx, s.plan.exact())
	if err != nil {
		return nil, fmt.Errorf("find the Cluster's shards: %w", err)
	}
	for _, shard := range shards {
		list = append(list, newSubscription(s, shard.Server, stop))
	}
	for i, shard := range shards {
		for _, names := range shard.Slots {
			if err := list[i].ps.SSubscribe(ctx, names...); err != nil {
				return list, fmt.Errorf("ssubscribe: %w", err)
			}
			list[i].expect += len(names)
		}
		err := list[i].read(ctx, func(m any) error {
			if list[i].expect == 0 {
				return errConfirmed
			}
			return s.takeSharded(m)
		})
		if !errors.Is(err, errConfirmed) {
			return list, fmt.Errorf("ssubscribe: %w", err)
		}
	}
	return list, nil
}

var errConfirmed = errors.New("all is confirmed")

// takeSharded handles what came from a shard.
func (s *source) takeSharded(m any) error {
	if m, ok := m.(*redis.Message); ok {
		s.take(m)
	}
	return nil
}
