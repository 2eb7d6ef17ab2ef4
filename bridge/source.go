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
	// every pingEvery, so silence means that the link is dead. It is looked for
	// watchedEvery: a deadline for each read would cost a sixth of the bridge's
	// time for a message.
	deadAfter    = 3 * time.Second
	pingEvery    = time.Second
	watchedEvery = pingEvery / 4
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
func (s *source) listen(ctx context.Context, backoff *redisconn.Backoff) (err error) {
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
	var heard atomic.Uint64
	watched := make(chan error, 1)
	go func() { watched <- watch(ctx, ps, &heard) }()
	defer func() {
		stop()
		if why := <-watched; why != nil {
			err = why
		}
	}()
	// The first reads take away the deadline that go-redis set for its greeting; the
	// others leave it at that.
	timeout := time.Duration(0)
	for {
		m, err := ps.ReceiveTimeout(ctx, timeout)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		heard.Add(1)
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
				timeout = -1
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

// watch pings Redis, and closes the subscription, which ends the read under way, when
// nothing was heard for too long. It returns why, or nil when the context ends.
func watch(ctx context.Context, ps *redis.PubSub, heard *atomic.Uint64) error {
	tick := time.NewTicker(watchedEvery)
	defer tick.Stop()
	last, at, pinged := uint64(0), time.Now(), time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		if n := heard.Load(); n != last {
			last, at = n, now
		}
		var err error
		if now.Sub(at) >= deadAfter {
			err = fmt.Errorf("nothing heard for %s", deadAfter)
		} else if now.Sub(pinged) >= pingEvery {
			pinged = now
			err = ps.Ping(ctx)
		}
		if err != nil && ctx.Err() == nil {
			ps.Close()
			return err
		}
	}
}
