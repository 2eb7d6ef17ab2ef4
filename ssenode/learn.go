package ssenode

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// learner finds out for new topics where they stand in the stream. It is the
// only thing that waits for the NATS server to know of new subscriptions; topics
// that come meanwhile are asked for together.
type learner struct {
	d    *dispatcher
	kick chan struct{} // capacity 1

	mu   sync.Mutex // guards list
	list []*topic

	// fewer is how often the number of topics asked for at a time is halved; it is
	// of run's goroutine.
	fewer int
}

// add never blocks.
func (l *learner) add(t *topic) {
	l.mu.Lock()
	l.list = append(l.list, t)
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *learner) take() []*topic {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.list), max(1, lastCount>>l.fewer))
	batch := l.list[:n:n]
	if l.list = l.list[n:]; n == 0 {
		l.list = nil
	}
	return batch
}

// run ends with the context.
func (l *learner) run(ctx context.Context) {
	for {
		select {
		case <-l.kick:
		case <-ctx.Done():
			return
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			if !l.learn(ctx, batch) {
				for _, t := range batch {
					l.add(t)
				}
				select {
				case <-time.After(askAgain / 4):
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// learn asks for the last message of each topic. What comes later comes live,
// or is missed by the chain or by a pulse.
func (l *learner) learn(ctx context.Context, batch []*topic) bool {
	d := l.d
	if !d.started.Load() || !d.hub.nc.IsConnected() || d.hub.nc.FlushTimeout(flushLimit) != nil {
		l.letGo(ctx, batch)
		return false
	}
	life, head := d.life.Load(), d.head.Load()
	limited, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	var places []learnt
	var subjects []string
	var patterns []*topic
	for _, t := range batch {
		switch {
		case t.literal && t.live:
			places = append(places, learnt{topic: t, upTo: head})
		case t.literal:
			subjects = append(subjects, t.subject())
		default:
			patterns = append(patterns, t)
		}
	}
	list, err := d.history.placesOf(limited, patterns)
	if err != nil {
		return false
	}
	places = append(places, list...)
	if len(subjects) > 0 {
		list, upTo, err := d.history.lastSince(limited, subjects, 0, head)
		if err != nil {
			return false
		}
		bySubject := make(map[string]uint64, len(list))
		for _, r := range list {
			bySubject[r.subject] = r.seq
		}
		for _, t := range batch {
			if t.literal && !t.live {
				places = append(places, learnt{t, bySubject[t.subject()], upTo})
			}
		}
	}
	ok, late, awaited := false, false, false
	d.call(ctx, func() {
		if ok = d.life.Load() == life; ok {
			late = d.late(places)
			awaited = d.learned(places)
		}
	})
	if awaited {
		select {
		case <-time.After(askAgain / 10):
		case <-ctx.Done():
		}
	}
	l.pace(late)
	return ok
}

// patternsAtOnce is how many patterns the leader is asked for at the same time: each
// answer takes it little, and the way to it and back most of the time.
const patternsAtOnce = 16

// placesOf asks the leader where patterns with wildcards stand.
func (h *history) placesOf(ctx context.Context, patterns []*topic) ([]learnt, error) {
	places := make([]learnt, len(patterns))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(patternsAtOnce)
	for i, t := range patterns {
		all.Go(func() (err error) {
			places[i], err = insist(ctx, func(ctx context.Context, _ bool) (learnt, error) {
				// The end of the stream first: what comes later may or may not be there.
				end, err := h.end(ctx)
				if err != nil {
					return learnt{}, err
				}
				last, err := h.leaderLast(ctx, t.subject())
				return learnt{t, last.seq, end.seq}, err
			})
			return err
		})
	}
	return places, all.Wait()
}

// late tells whether a pulse was checked while the places were asked for, as they were
// unless a channel has no history.
func (d *dispatcher) late(places []learnt) bool {
	head := d.head.Load()
	return slices.ContainsFunc(places, func(p learnt) bool {
		return p.upTo < head && !(p.topic.literal && p.topic.live)
	})
}

// pace has fewer topics asked for at a time when an answer came too late: a pulse was
// checked meanwhile, and all have to be asked for again. Pulses come early when much is
// written, some milliseconds after one another, and a long answer takes as long.
func (l *learner) pace(late bool) {
	switch {
	case late:
		l.fewer = min(l.fewer+1, mostlyFewer)
	case l.fewer > 0:
		l.fewer--
	}
}

// mostlyFewer is how often a batch is halved at most: 15 are left of 1,000.
const mostlyFewer = 6

// learnt is where a topic stands in the stream: its last message, when the stream
// ended at upTo.
type learnt struct {
	topic      *topic
	last, upTo uint64
}

// letGo lets clients of channels without history go on: what is to be had for
// them is had.
func (l *learner) letGo(ctx context.Context, batch []*topic) {
	if !l.d.hub.nc.IsConnected() {
		return
	}
	l.d.call(ctx, func() {
		for _, t := range batch {
			if t.literal && t.live {
				t.nowReady()
			}
		}
	})
}
