package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
)

const (
	// deadAfter is how long the link to Redis may be silent. A ping is sent
	// every pingEvery, so silence means that the link is dead.
	deadAfter = 3 * time.Second
	pingEvery = time.Second
	// subscribeBatch bounds the arguments of one SUBSCRIBE.
	subscribeBatch = 512
)

// source reads the planned channels from Redis for as long as it runs.
type source struct {
	client redis.UniversalClient
	plan   plan
	take   func(channel, payload string) // on the reader's goroutine; must not block
	lost   func()                        // after the link was lost and is there again; likewise
	log    *slog.Logger
	up     atomic.Bool
	links  atomic.Uint64 // how often the subscription was made
}

// run ends only with the context. What is published while there is no link is
// lost: Redis keeps nothing for subscribers that are away.
func (s *source) run(ctx context.Context) {
	var backoff redisconn.Backoff
	for ctx.Err() == nil {
		err := s.listen(ctx, &backoff)
		s.up.Store(false)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("no link to Redis, trying on", "error", err)
		for s.wait(ctx, &backoff) {
			if err := s.client.Ping(ctx).Err(); err == nil {
				break
			}
		}
	}
}

func (s *source) wait(ctx context.Context, b *redisconn.Backoff) bool {
	return b.Sleep(ctx) == nil
}

// listen makes one subscription and reads it until the first error. After an
// error the connection is never read again: a frame may have been cut in the
// middle, and its rest could pose as another message.
func (s *source) listen(ctx context.Context, backoff *redisconn.Backoff) error {
	ps := s.client.Subscribe(ctx)
	defer ps.Close()
	// A read under way does not hear of the context.
	defer context.AfterFunc(ctx, func() { ps.Close() })()
	expect := 0
	if globs := s.plan.globs(); len(globs) > 0 {
		if err := ps.PSubscribe(ctx, globs...); err != nil {
			return fmt.Errorf("psubscribe: %w", err)
		}
		expect += len(globs)
	}
	for names := s.plan.names(); len(names) > 0; {
		n := min(len(names), subscribeBatch)
		if err := ps.Subscribe(ctx, names[:n]...); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		expect += n
		names = names[n:]
	}
	ctx, stop := context.WithCancel(ctx)
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		s.ping(ctx, ps)
	}()
	defer func() { stop(); <-pinged }()
	for {
		m, err := ps.ReceiveTimeout(ctx, deadAfter)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		switch m := m.(type) {
		case *redis.Message:
			if s.plan.takes(m.Channel, m.Pattern) {
				s.take(m.Channel, m.Payload)
			}
		case *redis.Subscription:
			if expect == 0 {
				// go-redis made the connection anew behind our back.
				return errors.New("subscription was repeated: the connection had broken")
			}
			if expect--; expect == 0 {
				s.up.Store(true)
				if s.links.Add(1) > 1 {
					s.lost()
				}
				backoff.Reset()
				s.log.Info("subscribed to Redis", "patterns", len(s.plan.globs()), "channels", len(s.plan.names()))
			}
		}
	}
}

func (s *source) ping(ctx context.Context, ps *redis.PubSub) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if ps.Ping(ctx) != nil {
				return // the reader gets the error, too
			}
		case <-ctx.Done():
			return
		}
	}
}
