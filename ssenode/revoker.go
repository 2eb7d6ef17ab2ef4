package ssenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

const (
	// rereadEvery is how often the bucket is asked for what did not come by itself,
	// give or take a quarter.
	rereadEvery = 5 * time.Second
	// revokedQueue is how many revocations may wait; more are read from the bucket.
	revokedQueue = 4096
	// forgetEvery is how often those that are over are forgotten.
	forgetEvery = time.Minute
)

// errNotRead is told to whoever has a token before the node knows which are revoked.
var errNotRead = errors.New("what is revoked is not known yet")

// revoker keeps a node's revocations as they are in the bucket. What is put there
// goes to all subscribers of its subject, also before there is a bucket, so that it
// is known at once. NATS may lose it on the way: so the bucket's end is asked for,
// too, at the start, after each connection and every few seconds, and what is new is
// read. A bucket is a stream, and read like the other one; no consumer is needed.
type revoker struct {
	nc      *nats.Conn
	list    *auth.Revocations
	history *history
	inbox   chan *nats.Msg
	log     *slog.Logger
	stats   *stats
	ready   atomic.Bool // the bucket was read once

	seq uint64 // up to which it was read; reread's

	mu   sync.Mutex          // guards came, and whose turn it is to change the list
	came map[string]struct{} // keys of what came by itself while the bucket is being read; else nil
}

// knowsRevoked tells whether the node knows which tokens are revoked.
func (n *Node) knowsRevoked() bool { return n.revoker == nil || n.revoker.ready.Load() }

func newRevoker(n *Node) (*revoker, error) {
	r := &revoker{
		nc: n.nc, list: n.guard.Revocations, log: n.log, stats: n.stats, inbox: make(chan *nats.Msg, revokedQueue),
		history: historyOf(n.nc, n.cfg.Stream.RevokedStream(), n.cfg.Stream.RevokedPrefix()),
	}
	if _, err := n.nc.ChanSubscribe(r.history.prefix+">", r.inbox); err != nil {
		return nil, fmt.Errorf("subscribe revocations: %w", err)
	}
	return r, nil
}

// run ends with the context.
func (r *revoker) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.reread(ctx) })
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case m := <-r.inbox:
			r.takeLive(m.Subject[len(r.history.prefix):], m.Data)
		case now := <-tick.C:
			r.list.Sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

// takeLive takes what came by itself.
func (r *revoker) takeLive(key string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.came != nil && len(r.came) < revokedQueue {
		r.came[key] = struct{}{}
	}
	r.take(key, data)
}

// takeRead takes what was read from the bucket, unless something else of that key has
// come by itself since the reading began: that is newer as a rule. It returns false
// then: the next reading tells.
func (r *revoker) takeRead(key string, data []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, came := r.came[key]; came {
		return false
	}
	r.take(key, data)
	return true
}

// reading notes from now on, or no more, what comes by itself.
func (r *revoker) reading(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came = nil
	if on {
		r.came = map[string]struct{}{}
	}
}

// take heeds what is put under a key; nothing takes it back.
func (r *revoker) take(key string, data []byte) {
	if len(data) == 0 {
		r.list.Remove(key)
		return
	}
	v, err := wire.ParseRevocation(key, data)
	why := malformedRevocation
	switch {
	case err == nil && !time.Now().Before(v.Until):
		r.list.Remove(key) // the last one counts
		return
	case err == nil && r.list.Add(key, v):
		return
	case err == nil:
		why, err = tooManyRevocations, fmt.Errorf("%d are kept already", r.list.Len())
	}
	r.stats.ignored[why].Add(1)
	r.log.Warn("a revocation is not heeded", "reason", why.String(), "error", err)
}

// reread reads the bucket again and again, until the context ends.
func (r *revoker) reread(ctx context.Context) {
	status := r.nc.StatusChanged(nats.CONNECTED)
	defer func(status chan nats.Status) { r.nc.RemoveStatusListener(status) }(status)
	failing, told := time.Time{}, false
	for {
		pause := rereadEvery*3/4 + rand.N(rereadEvery/2)
		switch err := r.readNew(ctx); {
		case err == nil:
			r.ready.Store(true)
			failing, told = time.Time{}, false
		case failing.IsZero():
			failing, pause = time.Now(), askAgain
		default:
			pause = askAgain
			if !told && time.Since(failing) > tellAfter && r.nc.IsConnected() && ctx.Err() == nil {
				told = true
				r.log.Warn("revocations cannot be read, trying on", "bucket", r.history.name, "error", err)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case _, open := <-status:
			if !open { // as the connection is
				status = nil
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// readNew reads what was put into the bucket since the last time. A bucket that is
// not there has nothing.
func (r *revoker) readNew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	// What is put from now on comes by itself, whatever the answer knows.
	if err := r.nc.FlushTimeout(flushLimit); err != nil {
		return fmt.Errorf("subscribe revocations: %w", err)
	}
	r.reading(true)
	defer r.reading(false)
	end, err := r.history.leaderLast(ctx, ">")
	if err != nil {
		return err
	}
	if end.seq < r.seq {
		r.seq = 0 // made anew
	}
	upTo := end.seq
	err = r.history.each(ctx, ">", r.seq, end.seq, func(x record) {
		if !r.takeRead(x.subject, x.data) {
			upTo = min(upTo, x.seq-1)
		}
	})
	if err == nil {
		r.seq = upTo
	}
	return err
}
