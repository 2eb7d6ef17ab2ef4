package bridge

import (
	"log/slog"
	"sync"
)

// maxRefused bounds the names remembered for logging each once.
const maxRefused = 1000

// refusals logs a channel's refusal once, however many messages follow.
type refusals struct {
	log *slog.Logger
	mu  sync.Mutex // guards seen
	// seen holds name and reason; when it is full nothing more is logged, only
	// counted.
	seen map[string]bool
}

func (r *refusals) note(d drop, channel string, size, limit int) {
	key := d.String() + " " + channel[:min(len(channel), 200)]
	r.mu.Lock()
	first := !r.seen[key] && len(r.seen) < maxRefused
	if first {
		if r.seen == nil {
			r.seen = map[string]bool{}
		}
		r.seen[key] = true
	}
	r.mu.Unlock()
	if first {
		r.log.Warn("message refused; further ones of this channel are only counted", "reason", d.String(),
			"channel", channel[:min(len(channel), 200)], "bytes", size, "limit", limit)
	}
}
