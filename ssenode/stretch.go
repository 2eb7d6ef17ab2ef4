package ssenode

import (
	"context"
	"slices"
	"time"

	"sluice/shared/wire"
)

// countPages bounds the look ahead of a pattern's history, see fetcher.fetch.
const countPages = 32

// stretch is a part of a topic's history.
type stretch struct {
	after, through uint64 // complete for sequences above after, up to through
	frames         []*frame
	size           int64
	// short is 0, or the sequence before which something may be missing.
	short uint64
	used  int64 // Unix nanoseconds
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
		fr, _ := encode(t, r.subject, r.seq, wire.ID{Epoch: epoch, Seq: r.seq}, r.data, route, wrap)
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
