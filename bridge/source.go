package bridge

import (
	"context"
	"errors"
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
)

// sink is who takes what comes from Redis. Its methods run on the reader's goroutine
// and must not block.
type sink interface {
	take(channel, payload string)
	nonce(text string) // came on wire.MarkChannel
	up(again bool)     // before the first message of a link; again: after one that was lost
	down()             // it is lost
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

func (s *source) shards() bool { return false }

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
	for ctx.Err() == nil {
		err := s.listen(ctx, &backoff)
		if s.isUp.Swap(false) {
			s.sink.down()
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("no link to Redis, trying on", "error", err)
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
	defer server.Close()
	s.name.Store(&server.ID)
	ps := server.Subscribe(start)
	defer ps.Close()
	// A read under way does not hear of the context.
	defer context.AfterFunc(ctx, func() { ps.Close() })()
	expect, err := s.subscribe(start, ps)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &watched{source: s, server: server, ps: ps, end: make(chan error, 1)}
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx) })
	watching.Go(func() { l.escort(ctx) })
	defer func() {
		stop()
		watching.Wait()
		select {
		case err = <-l.end: // rather than that the connection was closed
		default:
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
		if l.heard.Add(1) == 1 {
			s.sink.up(s.links.Load() > 0)
		}
		switch m := m.(type) {
		case *redis.Message:
			if !s.plan.takes(m.Channel, m.Pattern) {
				continue
			}
			if m.Channel != wire.MarkChannel {
				s.sink.take(m.Channel, m.Payload)
			} else if wire.ValidEpoch(m.Payload) {
				s.nonces.came(m.Payload, s.stats)
				s.sink.nonce(m.Payload)
			}
		case *redis.Subscription:
			if expect == 0 {
				// go-redis made the connection anew behind our back.
				return errors.New("subscription was repeated: the connection had broken")
			}
			if expect--; expect == 0 {
				timeout = -1
				s.links.Add(1)
				s.isUp.Store(true)
				s.nonces.now()
				backoff.Reset()
				s.log.Info("subscribed to Redis", "server", server.Addr, "patterns", len(s.plan.globs()), "channels", len(s.plan.names()))
			}
		}
	}
}

// subscribe asks for all that is planned, and returns how many confirmations are to
// come.
func (s *source) subscribe(ctx context.Context, ps *redis.PubSub) (expect int, err error) {
	if globs := s.plan.globs(); len(globs) > 0 {
		if err := ps.PSubscribe(ctx, globs...); err != nil {
			return 0, fmt.Errorf("psubscribe: %w", err)
		}
		expect += len(globs)
	}
	for names := s.plan.names(); len(names) > 0; {
		n := min(len(names), subscribeBatch)
		if err := ps.Subscribe(ctx, names[:n]...); err != nil {
			return 0, fmt.Errorf("subscribe: %w", err)
		}
		expect += n
		names = names[n:]
	}
	return expect, nil
}
