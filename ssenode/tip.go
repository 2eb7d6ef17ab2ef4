package ssenode

import (
	"context"
	"sync"
	"time"
)

// tip tells where the stream ends, for ids beyond the last pulse. One question
// serves all that came before it was asked.
type tip struct {
	history *history

	mu     sync.Mutex // held while asking
	seq    uint64
	asked  time.Time
	failed error // the last question was not answered
}

// tipLimit is how long a client with an id beyond the last pulse waits for the
// stream to answer. It is connected meanwhile.
const tipLimit = 15 * time.Second

// reaches tells whether the stream has come to the sequence; false also when
// that cannot be had in time.
func (t *tip) reaches(seq uint64, done <-chan struct{}) bool {
	for limit := time.Now().Add(tipLimit); time.Now().Before(limit); {
		if is, err := t.ask(seq); err == nil {
			return is
		}
		select {
		case <-time.After(askAgain):
		case <-done:
			return false
		}
	}
	return false
}

func (t *tip) ask(seq uint64) (bool, error) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seq < seq && t.asked.Before(now) {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		defer cancel()
		r, err := t.history.end(ctx)
		if t.asked, t.failed = asked, err; err == nil {
			t.seq = r.seq
		}
	}
	if seq <= t.seq {
		return true, nil
	}
	return false, t.failed
}
