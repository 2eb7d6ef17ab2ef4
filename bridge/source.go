package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
	"sluice/shared/wire"
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
	// subscribeLimit bounds finding a server and subscribing there.
	subscribeLimit = 10 * time.Second
	// maxRetry bounds the pause between two tries. There are few bridges, and every
	// message in a pause is lost.
	maxRetry = time.Second
	// tellAgain is how often one and the same error is logged.
	tellAgain = 10 * time.Second
)

// sink is who takes what comes from Redis. Its methods run on the reader's goroutine
// and must not block.
type sink interface {
	take(channel, payload string)
	nonce(text string, sent time.Time) // came on wire.MarkChannel; sent is zero if it is not this bridge's
	up(again bool)                     // before the first message of a link; again: after one that was lost
	down()                             // it is lost
	leading() bool
}

// source reads the planned channels from Redis for as long as it runs.
type source struct {
	home  *redisconn.Home
	plan  plan
	sink  sink
	stats *stats
	log   *slog.Logger

	isUp   atomic.Bool
	links  atomic.Uint64          // how often the subscription was made
	name   atomic.Pointer[string] // of the server
	again  chan string            // capacity 1: why the link is to be made anew
	nonces nonces
	mu     sync.Mutex // held while the sink takes a message, where there are shards
}

func newSource(home *redisconn.Home, p plan, s sink, st *stats, log *slog.Logger) *source {
	src := &source{home: home, plan: p, sink: s, stats: st, log: log, again: make(chan string, 1)}
	src.nonces.kick = make(chan struct{}, 1)
	src.name.Store(new(string))
	return src
}

// linked tells whether the subscription is there.
func (s *source) linked() bool { return s.isUp.Load() }

// server names the Redis server, "" if it does not tell its name.
func (s *source) server() string { return *s.name.Load() }

// shards tells whether messages come from several servers of a Cluster.
func (s *source) shards() bool { return s.home.Cluster() && len(s.plan.exact()) > 0 }

// now has a nonce published at once, if this bridge leads.
func (s *source) now() { s.nonces.now() }

// renew makes the link anew.
func (s *source) renew(why string) {
	select {
	case s.again <- why:
	default:
	}
}

// run ends only with the context. What is published while there is no link is
// lost: Redis keeps nothing for subscribers that are away.
func (s *source) run(ctx context.Context) {
	backoff := redisconn.Backoff{Max: maxRetry}
	said, when := "", time.Time{}
	for ctx.Err() == nil {
		err := s.listen(ctx, &backoff)
		if s.isUp.Swap(false) {
			s.sink.down()
		}
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != said || time.Since(when) > tellAgain {
			said, when = text, time.Now()
			s.log.Warn("no link to Redis, trying on", "error", err)
		}
		_ = backoff.Sleep(ctx)
	}
}

// listen makes one subscription and reads it until the first error. After an
// error the connection is never read again: a frame may have been cut in the
// middle, and its rest could pose as another message.
func (s *source) listen(ctx context.Context, backoff *redisconn.Backoff) (err error) {
	start, cancel := context.WithTimeout(ctx, subscribeLimit)
	defer cancel()
	server, err := s.home.Find(start)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	l := newSubscription(s, server, stop)
	var watching sync.WaitGroup
	defer func() {
		stop(err)
		l.close()
		watching.Wait()
		err = explain(context.Cause(ctx))
	}()
	// A read under way does not hear of the context.
	defer context.AfterFunc(ctx, l.close)()
	if err := l.subscribe(start, s.plan.globs(), s.plan.names()); err != nil {
		return err
	}
	shards, err := s.openShards(start, stop)
	for _, shard := range shards {
		defer shard.close()
		defer context.AfterFunc(ctx, shard.close)()
	}
	if err != nil {
		return err
	}
	s.name.Store(&server.ID)
	s.nonces.begin()
	watching.Go(func() { l.watch(ctx, s.again) })
	watching.Go(func() { s.escort(ctx, l) })
	watching.Go(func() { s.check(ctx, l) })
	for _, shard := range shards {
		watching.Go(func() { s.check(ctx, shard) })
		watching.Go(func() { shard.watch(ctx, nil) })
		watching.Go(func() { stop(shard.read(ctx, s.takeSharded)) })
	}
	return l.read(ctx, func(m any) error {
		if l.heard.Load() == 1 {
			s.sink.up(s.links.Load() > 0)
		}
		switch m := m.(type) {
		case *redis.Message:
			s.message(m)
		case *redis.Subscription:
			if l.expect == 0 {
				s.links.Add(1)
				s.isUp.Store(true)
				s.nonces.now()
				backoff.Reset()
				s.log.Info("subscribed to Redis", "server", server.Addr, "patterns", len(s.plan.globs()), "channels", len(s.plan.names()), "shards", len(shards))
			}
		}
		return nil
	})
}

// message handles one that came over the link to the home server.
func (s *source) message(m *redis.Message) {
	switch {
	case !s.plan.takes(m.Channel, m.Pattern):
	case m.Channel != wire.MarkChannel:
		s.take(m)
	case wire.ValidEpoch(m.Payload):
		s.sink.nonce(m.Payload, s.nonces.came(m.Payload, s.stats))
	}
}

// take gives a message to the sink. With shards there are several readers.
func (s *source) take(m *redis.Message) {
	if s.shards() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	s.sink.take(m.Channel, m.Payload)
}

// explain says what to do about an error of Redis'.
func explain(err error) error {
	if redis.IsPermissionError(err) {
		return fmt.Errorf("%w (a bridge's user needs: %s)", err, Rights)
	}
	return err
}

// Rights are the ACL rules that a bridge's user needs in Redis, beside those of the
// channels that it mirrors. INFO and, in a Cluster, CLUSTER may be left out.
const Rights = "+psubscribe +subscribe +ssubscribe +publish +ping +info +role +cluster &*"
