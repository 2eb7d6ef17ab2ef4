package bridge

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/wire"
)

// nonces are what the leader publishes on wire.MarkChannel, see order. That they come
// back in time shows that the subscription is alive, and how long the way through
// Redis takes.
type nonces struct {
	kick chan struct{} // capacity 1: publish one at once

	mu   sync.Mutex // guards the following fields
	sent map[string]time.Time
	told bool // of that they cannot be published
}

// now has one published at once.
func (n *nonces) now() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// begin forgets those of an earlier link.
func (n *nonces) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = map[string]time.Time{}
}

// publish sends one. It must not be sent twice, or it would name two places: c does
// not try again.
func (n *nonces) publish(ctx context.Context, c *redis.Client, log *slog.Logger) {
	text := strings.ToLower(rand.Text()[:12])
	n.mu.Lock()
	n.sent[text] = time.Now()
	n.mu.Unlock()
	err := c.Publish(ctx, wire.MarkChannel, text).Err()
	if err == nil {
		return
	}
	n.mu.Lock()
	delete(n.sent, text)
	refused := redis.IsPermissionError(err)
	first := refused && !n.told
	n.told = refused
	n.mu.Unlock()
	if first {
		log.Warn("Redis refuses to publish on "+wire.MarkChannel+": standbys are cold, a takeover will be told to all clients as a gap", "error", err)
	} else if !refused && ctx.Err() == nil {
		log.Debug("nonce not published", "error", err)
	}
}

// came notes that a nonce came back, and tells when this bridge has sent it: the zero
// time if it has not.
func (n *nonces) came(text string, s *stats) (sent time.Time) {
	n.mu.Lock()
	at, own := n.sent[text]
	delete(n.sent, text)
	n.mu.Unlock()
	if own {
		s.redisTime.Observe(time.Since(at).Seconds())
	}
	return at
}

// overdue tells that Redis took a nonce and did not send it on.
func (n *nonces) overdue() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.sent {
		if away := time.Since(at); away > deadAfter {
			return fmt.Errorf("a mark published in Redis %s ago has not come back", away.Round(time.Millisecond))
		}
	}
	return nil
}
