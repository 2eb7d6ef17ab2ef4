package bridge

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/shared/wire"
)

// maxRefused bounds the names remembered for logging each once.
const maxRefused = 1000

const (
	// maxMarked bounds the subjects named in one gap mark; with more of them it
	// speaks of all.
	maxMarked = 100
	// markEvery keeps a publisher of refused messages from filling the stream
	// with gap marks.
	markEvery = time.Second
)

// refusals logs a channel's refusal once, however many messages follow, and
// collects for the clients which channels lost something.
type refusals struct {
	log *slog.Logger
	mu  sync.Mutex // guards the following fields
	// seen holds name and reason; when it is full nothing more is logged, only
	// counted.
	seen   map[string]bool
	lost   map[string]bool // subjects since the last mark
	marked time.Time
}

// lose notes that a message on the subject was not mirrored.
func (r *refusals) lose(subject string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = map[string]bool{}
	}
	if len(r.lost) <= maxMarked {
		r.lost[subject] = true
	}
}

// clear forgets what was lost: another bridge tells of it.
func (r *refusals) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = nil
}

// take returns a mark of what was lost, or nil; the last one does not wait for its
// time.
func (r *refusals) take(last bool) *wire.Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if len(r.lost) == 0 || now.Sub(r.marked) < markEvery && !last {
		return nil
	}
	m := &wire.Mark{Reason: wire.GapDropped, Time: now.UTC()}
	if len(r.lost) <= maxMarked {
		m.Subjects = slices.Sorted(maps.Keys(r.lost))
	}
	r.lost, r.marked = nil, now
	return m
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
