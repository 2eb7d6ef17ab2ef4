package ssenode

import (
	"context"
	"sync"
	"time"
)

const (
	// pastAge is how long a stretch is kept after it was last used, so that all
	// clients which lost the same node need it fetched once.
	pastAge = 15 * time.Second
	// pastBytes bounds all stretches of a node.
	pastBytes = 64 << 20
	// fetchers is how many stretches are fetched at a time.
	fetchers = 4
	// fetchLimit is how long the stream may not answer before clients are told
	// that what they missed is lost.
	fetchLimit = 30 * time.Second
)

// fetcher reads stretches of history for all topics of a node.
type fetcher struct {
	d    *dispatcher
	kick chan struct{} // capacity fetchers

	mu    sync.Mutex // guards the following fields
	jobs  []job
	kept  []keptStretch // oldest first
	bytes int64
}

type job struct {
	topic     *topic
	after, to uint64
	tail      int // instead: the last so many events up to to
}

type keptStretch struct {
	topic   *topic
	stretch *stretch
}

// wait makes the session wait for the stretch after pos. The caller holds the
// topic's lock.
func (f *fetcher) wait(s *session, j job) {
	j.topic.await(s)
	f.ahead(j)
}

// ahead fetches a stretch, unless one of the topic is being fetched: who waits
// looks again when that is there. The caller holds the topic's lock.
func (f *fetcher) ahead(j job) {
	p := j.topic.asked()
	if p.fetching {
		return
	}
	p.fetching = true
	f.mu.Lock()
	f.jobs = append(f.jobs, j)
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// run is one of the fetching goroutines; it ends with the context.
func (f *fetcher) run(ctx context.Context) {
	for {
		select {
		case <-f.kick:
		case <-ctx.Done():
			return
		}
		for {
			f.mu.Lock()
			if len(f.jobs) == 0 {
				f.jobs = nil
				f.mu.Unlock()
				break
			}
			j := f.jobs[0]
			f.jobs = f.jobs[1:]
			f.mu.Unlock()
			f.do(ctx, j)
		}
	}
}

func (f *fetcher) do(ctx context.Context, j job) {
	life, epoch := f.d.life.Load(), f.d.epochNow()
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	var list []*stretch
	var last *tail
	var err error
	if j.tail > 0 {
		last, err = f.fetchTail(limited, j, epoch)
	} else {
		list, err = f.fetch(limited, j, epoch)
	}
	t := j.topic
	t.mu.Lock()
	p := t.asked()
	waiting := p.waiting
	p.fetching, p.waiting = false, nil
	if f.d.life.Load() == life && ctx.Err() == nil {
		if err != nil {
			f.d.log.Warn("history not to be had from the stream", "channel", t.name(), "error", err)
			list = []*stretch{{after: j.after, through: j.to, short: j.to}}
			last = &tail{count: j.tail, upTo: j.to}
		}
		if j.tail > 0 {
			p.tail = last
		} else {
			f.keep(t, list)
		}
	}
	t.tidy()
	t.mu.Unlock()
	wake(waiting)
}

// wake lets sessions that waited look again.
func wake(waiting []*session) {
	byLoop := map[*loop][]*session{}
	for _, s := range waiting {
		byLoop[s.loop] = append(byLoop[s.loop], s)
	}
	for l, sessions := range byLoop {
		l.ask(func() {
			for _, s := range sessions {
				s.fetched()
			}
		})
	}
}

// keep adds stretches to a topic whose lock the caller holds.
func (f *fetcher) keep(t *topic, list []*stretch) {
	now := time.Now().UnixNano()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range list {
		s.used = now
		for _, fr := range s.frames {
			s.size += fr.size()
		}
		p := t.asked()
		p.stretches = append(p.stretches, s)
		f.kept = append(f.kept, keptStretch{t, s})
		f.bytes += s.size
	}
}

// expire lets go of stretches that are not used any more, and of the oldest
// when there are too many.
func (f *fetcher) expire(now time.Time) {
	f.mu.Lock()
	kept, bytes := f.kept, f.bytes
	f.kept = nil
	f.mu.Unlock()
	limit := now.Add(-pastAge).UnixNano()
	left, freed := kept[:0], int64(0)
	for _, k := range kept {
		k.topic.mu.Lock()
		if k.stretch.used < limit || bytes-freed > pastBytes {
			k.topic.remove(k.stretch)
			freed += k.stretch.size
		} else {
			left = append(left, k)
		}
		k.topic.mu.Unlock()
	}
	clear(kept[len(left):])
	f.mu.Lock()
	f.kept = append(left, f.kept...)
	f.bytes -= freed
	f.mu.Unlock()
}
