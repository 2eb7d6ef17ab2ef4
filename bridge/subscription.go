package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
)

// subscription is one connection that gets messages from a Redis server, from the
// first SUBSCRIBE to the first error.
type subscription struct {
	server *redisconn.Server
	ps     *redis.PubSub
	stop   context.CancelCauseFunc
	heard  atomic.Uint64 // messages and answers
	expect int           // confirmations to come
}

func newSubscription(s *source, server *redisconn.Server, stop context.CancelCauseFunc) *subscription {
	return &subscription{server: server, ps: server.Subscribe(context.Background()), stop: stop}
}

// close ends the connection, and with it the read under way. It may be called more
// than once.
func (l *subscription) close() {
	l.ps.Close()
	l.server.Close()
}

// subscribe asks for patterns and channels.
func (l *subscription) subscribe(ctx context.Context, globs, names []string) error {
	if len(globs) > 0 {
		if err := l.ps.PSubscribe(ctx, globs...); err != nil {
			return fmt.Errorf("psubscribe: %w", err)
		}
		l.expect += len(globs)
	}
	for len(names) > 0 {
		n := min(len(names), subscribeBatch)
		if err := l.ps.Subscribe(ctx, names[:n]...); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		l.expect += n
		names = names[n:]
	}
	return nil
}

// read hands over what comes until the first error, which it returns.
func (l *subscription) read(ctx context.Context, handle func(m any) error) error {
	// The first reads take away the deadline that go-redis set for its greeting; the
	// others leave it at that.
	timeout := time.Duration(0)
	for {
		m, err := l.ps.ReceiveTimeout(ctx, timeout)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		l.heard.Add(1)
		if s, ok := m.(*redis.Subscription); ok {
			switch {
			case s.Kind == "sunsubscribe":
				return fmt.Errorf("channel %q has moved to another server", s.Channel)
			case l.expect == 0:
				// go-redis made the connection anew behind our back.
				return errors.New("subscription was repeated: the connection had broken")
			}
			l.expect--
		}
		if l.expect == 0 {
			timeout = -1
		}
		if err := handle(m); err != nil {
			return err
		}
	}
}

// watch pings Redis, and ends the subscription when nothing was heard for too long,
// or when again says so. It ends with the context.
func (l *subscription) watch(ctx context.Context, again <-chan string) {
	tick := time.NewTicker(watchedEvery)
	defer tick.Stop()
	last, at, pinged, ticked := uint64(0), time.Now(), time.Now(), time.Now()
	for {
		select {
		case <-tick.C:
		case why := <-again:
			l.stop(fmt.Errorf("link given up: %s", why))
			return
		case <-ctx.Done():
			return
		}
		now := time.Now()
		// Who was stopped for a while has not listened, either.
		if n := l.heard.Load(); n != last || now.Sub(ticked) > pingEvery {
			last, at = n, now
		}
		ticked = now
		if now.Sub(at) >= deadAfter {
			l.stop(fmt.Errorf("nothing heard for %s", deadAfter))
			return
		}
		if now.Sub(pinged) >= pingEvery {
			pinged = now
			if err := l.ps.Ping(ctx); err != nil {
				l.stop(fmt.Errorf("ping: %w", err))
				return
			}
		}
	}
}
