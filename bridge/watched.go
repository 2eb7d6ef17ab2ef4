package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
)

// escortLimit bounds one publication of a nonce and one question whether the server
// is still the right one.
const escortLimit = time.Second

// watched is one link to Redis, from the subscription to the first error.
type watched struct {
	*source
	server *redisconn.Server
	ps     *redis.PubSub
	heard  atomic.Uint64 // messages and answers
	end    chan error    // capacity 1: why it was closed
}

// close ends the link, and with it the read under way.
func (l *watched) close(err error) {
	select {
	case l.end <- err:
	default:
	}
	l.ps.Close()
}

// watch pings Redis, and closes the link when nothing was heard for too long. It ends
// with the context.
func (l *watched) watch(ctx context.Context) {
	tick := time.NewTicker(watchedEvery)
	defer tick.Stop()
	last, at, pinged, ticked := uint64(0), time.Now(), time.Now(), time.Now()
	for {
		select {
		case <-tick.C:
		case why := <-l.again:
			l.close(fmt.Errorf("link given up: %s", why))
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
			l.close(fmt.Errorf("nothing heard for %s", deadAfter))
			return
		}
		if now.Sub(pinged) >= pingEvery {
			pinged = now
			if err := l.ps.Ping(ctx); err != nil && ctx.Err() == nil {
				l.close(fmt.Errorf("ping: %w", err))
				return
			}
		}
	}
}

// escort publishes nonces while the bridge leads, and looks whether they come back
// and whether the server is still the right one. It ends with the context.
func (l *watched) escort(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	l.nonces.begin()
	for {
		select {
		case <-tick.C:
		case <-l.nonces.kick:
		case <-ctx.Done():
			return
		}
		if !l.linked() {
			continue
		}
		one, cancel := context.WithTimeout(ctx, escortLimit)
		if l.sink.leading() {
			l.nonces.publish(one, l.server.Client, l.log)
		}
		err := l.home.Check(one, l.server)
		cancel()
		if err == nil {
			err = l.nonces.overdue()
		}
		if err != nil && ctx.Err() == nil {
			l.close(err)
			return
		}
	}
}
