package ssenode

import (
	"context"
	"slices"
	"sync"
	"time"

	"sluice/shared/wire"
)

const (
	// pastAge is how long a stretch is kept after it was last used, so that all
	// clients which lost the same node need it fetched once.
	pastAge = 15 * time.Second
	// pastBytes bounds all stretches of a node.
	pastBytes = 64 << 20
	// fetchers is how many stretches are fetched at a time.
	fetchers = 4
	// countPages bounds the look ahead of a pattern's history, see fetcher.fetch.
	countPages = 32
	// fetchLimit is how long the stream may not answer before clients are told
	// that what they missed is lost.
	fetchLimit = 30 * time.Second
)

// past is what was fetched of a topic's history a moment ago. The topic's lock
// guards it.
type past struct {
	stretches []*stretch
	fetching  bool
	waiting   []*session
	tail      *tail
}

// forget lets go of all that is there.
func (p *past) forget() { p.stretches, p.tail = nil, nil }

// stretch is a part of a topic's history.
type stretch struct {
	after, through uint64 // complete for sequences above after, up to through
	frames         []*frame
	size           int64
	// short is 0, or the sequence before which something may be missing.
	short uint64
	used  int64 // Unix nanoseconds
}

// tail is the last events of a topic for clients that ask for initial ones.
type tail struct {
	count  int
	upTo   uint64
	frames []*frame
}

// holding returns the stretch in which a client at the position goes on.
func (p *past) holding(pos uint64) *stretch {
	for _, s := range p.stretches {
		if s.after <= pos && pos < s.through {
			return s
		}
	}
	return nil
}

// until tells how far a stretch that begins at the position is of use: to where
// another one begins, else to the sequence given. So stretches join, and clients
// that were at different positions soon share them.
func (p *past) until(pos, to uint64) uint64 {
	for _, s := range p.stretches {
		if s.after > pos {
			to = min(to, s.after)
		}
	}
	return to
}

// since is like ring.since; through tells how far the frames are complete.
func (s *stretch) since(dst []*frame, pos uint64, max int64) (frames []*frame, through uint64) {
	i, _ := slices.BinarySearchFunc(s.frames, pos+1, func(f *frame, seq uint64) int {
		if f.seq < seq {
			return -1
		}
		return 1
	})
	first := len(dst)
	for size := int64(0); i < len(s.frames); i++ {
		f := s.frames[i]
		if size += f.size(); size > max && len(dst) > first {
			return dst, dst[len(dst)-1].seq
		}
		dst = append(dst, f)
	}
	return dst, s.through
}

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
	j.topic.past.waiting = append(j.topic.past.waiting, s)
	f.ahead(j)
}

// ahead fetches a stretch, unless one of the topic is being fetched: who waits
// looks again when that is there. The caller holds the topic's lock.
func (f *fetcher) ahead(j job) {
	p := &j.topic.past
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
	waiting := t.past.waiting
	t.past.fetching, t.past.waiting = false, nil
	if f.d.life.Load() == life && ctx.Err() == nil {
		if err != nil {
			f.d.log.Warn("history not to be had from the stream", "channel", t.name, "error", err)
			list = []*stretch{{after: j.after, through: j.to, short: j.to}}
			last = &tail{count: j.tail, upTo: j.to}
		}
		if j.tail > 0 {
			t.past.tail = last
		} else {
			f.keep(t, list)
		}
	}
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
		t.past.stretches = append(t.past.stretches, s)
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
			k.topic.past.stretches = slices.DeleteFunc(k.topic.past.stretches, func(s *stretch) bool { return s == k.stretch })
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

// fetch reads the stretch after j.after; of a pattern so much of it, if needed,
// that it is known whether any of its channels lacks something.
func (f *fetcher) fetch(ctx context.Context, j job, epoch string) ([]*stretch, error) {
	t, h := j.topic, f.d.history
	if t.literal && t.throttles {
		return f.fetchLast(ctx, j, epoch)
	}
	var list []*stretch
	counts, short, size := map[string]int{}, false, 0
	for after, pages := j.after, 1; ; pages++ {
		p, err := h.reaching(ctx, t.subject(), after, j.to)
		if err != nil {
			return nil, err
		}
		s := f.stretch(t, p, after, j.to, epoch)
		if len(list) == 0 || size < 4*pageBytes {
			list = append(list, s)
		}
		// A channel's own count tells; so does that of all channels of a pattern
		// when it is below what any one may keep, or what each of them has.
		if t.literal || pages == 1 && (len(p.records)+int(min(p.pending, 1<<30)) < f.d.hub.routes.MinCount() || f.d.noneFull(ctx, t)) {
			return list, nil
		}
		for _, r := range p.records {
			size += len(r.data)
			counts[r.subject]++
			short = short || f.d.hub.trimmed(r.subject, counts[r.subject])
		}
		if short = short || pages == countPages; short || s.through >= j.to {
			break
		}
		after = p.through
	}
	if short {
		list[0].short = max(list[0].short, firstOf(list[0]))
	}
	return list, nil
}

// noneFull tells whether no channel of a pattern has so many messages in the
// stream that it may have had more; false also when that cannot be had.
func (d *dispatcher) noneFull(ctx context.Context, t *topic) bool {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	counts, err := d.history.counts(ctx, t.subject())
	if err != nil {
		return false
	}
	for subject, n := range counts {
		if d.hub.trimmed(subject, n) {
			return false
		}
	}
	return true
}

func firstOf(s *stretch) uint64 {
	if len(s.frames) > 0 {
		return s.frames[0].seq
	}
	return s.through
}

// stretch makes frames of a page, leaving out what the channel's route does not
// keep any more.
func (f *fetcher) stretch(t *topic, p page, after, to uint64, epoch string) *stretch {
	s := &stretch{after: after, through: min(p.through, to)}
	if p.pending == 0 {
		s.through = to
	}
	now := time.Now()
	skip := 0
	if t.literal {
		total := len(p.records) + int(min(p.pending, 1<<30))
		if skip = max(0, total-t.route.History.Count); total > t.route.History.Count || total >= f.d.hub.routes.MaxCount() {
			s.short = p.through // set right below
			if skip < len(p.records) {
				s.short = p.records[skip].seq
			}
		}
	}
	if p.first > after+1 && s.short == 0 {
		s.short = s.through
		if len(p.records) > 0 {
			s.short = p.records[0].seq
		}
	}
	wrap := t.wraps.Load() > 0
	latest := map[string]int{} // of throttled channels
	for i, r := range p.records {
		if r.seq > to {
			break
		}
		route := t.route
		if route == nil {
			route = f.d.hub.routes.MatchSubject(r.subject)
		}
		if i < skip || now.Sub(r.at) > route.History.Age {
			s.short = max(s.short, r.seq)
			continue
		}
		fr, _ := encode(t, r.subject, r.seq, wire.ID{Epoch: epoch, Seq: r.seq}, r.data, route.Format, wrap)
		if fr == nil {
			continue
		}
		if route.Throttle > 0 {
			if before, there := latest[r.subject]; there {
				s.frames[before] = nil
			}
			latest[r.subject] = len(s.frames)
		}
		s.frames = append(s.frames, fr)
	}
	s.frames = slices.DeleteFunc(s.frames, func(fr *frame) bool { return fr == nil })
	return s
}

// fetchLast is fetch for a throttled channel: only its last event counts.
func (f *fetcher) fetchLast(ctx context.Context, j job, epoch string) ([]*stretch, error) {
	t, h := j.topic, f.d.history
	list, _, err := h.lastSince(ctx, []string{t.subject()}, j.after+1, j.to)
	if err != nil {
		return nil, err
	}
	p := page{through: j.to}
	for _, r := range list {
		if r.subject == t.subject() && r.seq > j.after && r.seq <= j.to {
			p.records = append(p.records, r)
		}
	}
	// One later than to is in the ring, or held back and will come.
	if len(p.records) == 0 {
		if p.first, err = h.first(ctx); err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.subject == t.subject() {
				p.first = 0
			}
		}
	}
	return []*stretch{f.stretch(t, p, j.after, j.to, epoch)}, nil
}

// fetchTail reads the last j.tail events of a channel, or the last one of each
// channel of a pattern, up to j.to.
func (f *fetcher) fetchTail(ctx context.Context, j job, epoch string) (*tail, error) {
	t, h := j.topic, f.d.history
	result := &tail{count: j.tail, upTo: j.to}
	var records []record
	switch {
	case j.to == 0:
		return result, nil
	case j.tail == 1 || !t.literal:
		list, err := insist(ctx, func(ctx context.Context, leader bool) ([]record, error) {
			if leader && t.literal {
				r, err := h.leaderLast(ctx, t.subject())
				return []record{r}, err
			}
			list, _, err := h.last(ctx, []string{t.subject()}, 0, j.to)
			if err == nil && (len(list) == 0 || t.literal && !slices.ContainsFunc(list, func(r record) bool { return r.seq == j.to })) {
				err = errLate
			}
			return list, err
		})
		if err != nil {
			return nil, err
		}
		records = list
	default:
		err := h.each(ctx, t.subject(), 0, j.to, func(r record) {
			records = append(records, r)
			if len(records) > j.tail {
				records = records[1:]
			}
		})
		if err != nil {
			return nil, err
		}
	}
	for _, r := range records {
		if r.seq == 0 || r.seq > j.to || r.subject[0] == '$' {
			continue
		}
		route := f.d.hub.routes.MatchSubject(r.subject)
		if time.Since(r.at) > route.History.Age {
			continue
		}
		if fr, _ := encode(t, r.subject, r.seq, wire.ID{}, r.data, route.Format, t.wraps.Load() > 0); fr != nil {
			result.frames = append(result.frames, fr)
		}
	}
	return result, nil
}
