package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sluice/shared/wire"
)

// What only the stream's leader is asked: it does not lag, but gives messages one
// by one.

// end reads the stream's last message from the leader; a zero record if there
// is none.
func (h *history) end(ctx context.Context) (record, error) {
	r, err := h.leaderGet(ctx, getRequest{LastFor: ">"}) // as in first
	if errors.Is(err, errNothing) {
		return record{}, nil
	}
	return r, err
}

// leaderGet reads one message from the stream's leader.
func (h *history) leaderGet(ctx context.Context, req getRequest) (_ record, err error) {
	// An answer that was lost with the connection must not be waited for.
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	body, _ := json.Marshal(req) // strings and numbers
	defer h.ask()(&err)
	m, err := h.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+h.name, body)
	if err != nil {
		return record{}, fmt.Errorf("read from the leader of stream %s: %w", h.name, err)
	}
	var resp struct {
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return record{}, fmt.Errorf("read from the leader of stream %s: %w", h.name, err)
	}
	switch {
	case resp.Error != nil && resp.Error.Code == 404:
		return record{}, errNothing
	case resp.Error != nil:
		return record{}, fmt.Errorf("read from the leader of stream %s: %s", h.name, resp.Error.Description)
	case resp.Message == nil || len(resp.Message.Subject) <= len(h.prefix):
		return record{}, fmt.Errorf("read from the leader of stream %s: empty answer", h.name)
	}
	return record{resp.Message.Subject[len(h.prefix):], resp.Message.Seq, resp.Message.Time, resp.Message.Data}, nil
}

// leaderLast reads the last message of a subject, wildcards included, from the
// leader; a zero record if there is none.
func (h *history) leaderLast(ctx context.Context, subject string) (record, error) {
	r, err := h.leaderGet(ctx, getRequest{LastFor: h.prefix + subject})
	if errors.Is(err, errNothing) {
		return record{}, nil
	}
	return r, err
}

// leaderPage is a page read from the leader.
func (h *history) leaderPage(ctx context.Context, subject string, after uint64) (page, error) {
	p := page{through: after}
	for range leaderCount {
		if limit, ok := ctx.Deadline(); ok && p.through > after && time.Until(limit) < askLimit/2 {
			break // rather less than nothing
		}
		r, err := h.leaderGet(ctx, getRequest{Seq: p.through + 1, NextFor: h.prefix + subject})
		if errors.Is(err, errNothing) {
			p.first, err = h.first(ctx)
			return p, err
		}
		if err != nil {
			return page{}, err
		}
		p.through = r.seq
		if r.subject[0] != '$' || subject[0] == '$' {
			p.records = append(p.records, r)
		}
	}
	p.pending = 1 // or more
	var err error
	p.first, err = h.first(ctx)
	return p, err
}

// lastPulse reads the last pulse from the leader.
func (h *history) lastPulse(ctx context.Context) (wire.Pulse, uint64, error) {
	r, err := h.leaderLast(ctx, wire.PulseToken)
	if err != nil {
		return wire.Pulse{}, 0, err
	}
	if r.seq == 0 {
		return wire.Pulse{}, 0, fmt.Errorf("stream %s has no pulse: %w", h.name, errNothing)
	}
	p, err := wire.ParsePulse(r.data)
	return p, r.seq, err
}

func (h *history) leaderLasts(ctx context.Context, subjects []string, head uint64) (list []record, upTo uint64, err error) {
	// The end of the stream first: what comes later may or may not be there.
	end, err := h.end(ctx)
	if err != nil {
		return nil, 0, err
	}
	if end.seq < head {
		return nil, 0, errLate
	}
	for _, subject := range subjects {
		r, err := h.leaderLast(ctx, subject)
		if err != nil {
			return nil, 0, err
		}
		if r.seq != 0 {
			list = append(list, r)
		}
	}
	return list, end.seq, nil
}

// counts reads how many messages each subject of a pattern has, from the leader.
// It fails when there are more subjects than one answer holds (100,000).
func (h *history) counts(ctx context.Context, subject string) (_ map[string]int, err error) {
	body, _ := json.Marshal(map[string]string{"subjects_filter": h.prefix + subject}) // a string
	defer h.ask()(&err)
	m, err := h.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+h.name, body)
	if err != nil {
		return nil, fmt.Errorf("count messages of stream %s: %w", h.name, err)
	}
	var resp struct {
		Total int `json:"total"`
		State struct {
			Subjects map[string]int `json:"subjects"`
		} `json:"state"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return nil, fmt.Errorf("count messages of stream %s: %w", h.name, err)
	}
	if resp.Error != nil || resp.Total > len(resp.State.Subjects) {
		return nil, fmt.Errorf("count messages of stream %s: %d subjects of %d, %v", h.name, len(resp.State.Subjects), resp.Total, resp.Error)
	}
	counts := make(map[string]int, len(resp.State.Subjects))
	for s, n := range resp.State.Subjects {
		if s = s[min(len(s), len(h.prefix)):]; s != "" && s[0] != '$' {
			counts[s] = n
		}
	}
	return counts, nil
}
