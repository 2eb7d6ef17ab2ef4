package publisher

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice/shared/redisconn"
)

const (
	// lookEvery is the time between two looks at a Redis that answers.
	lookEvery = time.Second
	// lookLimit is how long it may take to answer.
	lookLimit = time.Second
)

// link knows whether Redis answers, so that nobody waits for one that does not.
type link struct {
	out   outbox
	log   *slog.Logger
	kick  chan struct{} // capacity 1: look now
	state atomic.Pointer[linkState]
}

// linkState is what the last look has found.
type linkState struct{ err error }

func newLink(out outbox, log *slog.Logger) *link {
	return &link{out: out, log: log, kick: make(chan struct{}, 1)}
}

var errNotAsked = errors.New("it was not asked yet")

// err says why Redis cannot be used, or nil.
func (l *link) err() error {
	if s := l.state.Load(); s != nil {
		return s.err
	}
	return errNotAsked
}

// away tells whether it is known that Redis does not answer.
func (l *link) away() bool {
	s := l.state.Load()
	return s != nil && s.err != nil
}

// doubt has the next look made at once. It never blocks.
func (l *link) doubt() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run looks until the context ends: each second, and while Redis is away after
// pauses of 50 ms to 1 s.
func (l *link) run(ctx context.Context) {
	pause := redisconn.Backoff{Min: 50 * time.Millisecond, Max: lookEvery}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.kick:
		case <-ctx.Done():
			return
		}
		l.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if l.away() {
			timer.Reset(pause.Next())
			continue
		}
		pause.Reset()
		timer.Reset(lookEvery)
	}
}

func (l *link) look(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	err := l.out.ping(limited)
	if ctx.Err() != nil {
		return
	}
	was := l.err()
	l.state.Store(&linkState{err})
	switch {
	case err != nil && (was == nil || errors.Is(was, errNotAsked)):
		l.log.Warn("Redis does not answer: nothing is published until it does", "reason", err)
	case err == nil && was != nil && !errors.Is(was, errNotAsked):
		l.log.Info("Redis answers again")
	}
}
