package ssenode

import (
	"context"
	"slices"
	"time"

	"sluice/shared/wire"
)

// tail is the last events of a topic for clients that ask for initial ones.
type tail struct {
	count  int
	upTo   uint64
	frames []*frame
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
		if fr, _ := encode(t, r.subject, r.seq, wire.ID{}, r.data, route, t.wraps.Load() > 0); fr != nil {
			result.frames = append(result.frames, fr)
		}
	}
	return result, nil
}
