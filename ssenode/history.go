package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/shared/wire"
)

const (
	// pageCount and pageBytes bound one answer of the stream. Without a bound
	// the server sends up to 64 MiB at once. For each answer it counts what
	// follows, under its lock and for a memory stream by looking at up to half of
	// all messages, so a few large ones cost less than many small ones.
	pageCount = 4000
	pageBytes = 512 << 10
	// lastCount is how many subjects one question about last messages may name;
	// the server refuses answers of more than 1,024.
	lastCount = 1000
	// leaderCount is how many messages are taken from the stream's leader, which
	// gives them one by one, before replicas are asked again.
	leaderCount = 64
)

// history asks the stream for what it holds. Questions go to any replica, which
// may lag behind, unless they are said to go to the leader.
type history struct {
	nc     *nats.Conn
	name   string        // of the stream
	prefix string        // of all its subjects
	asked  atomic.Uint64 // requests made
	failed atomic.Uint64 // of them, that were not answered as they should be
	took   prometheus.Histogram
}

func newHistory(nc *nats.Conn, s wire.Stream) *history { return historyOf(nc, s.Name, s.Log()) }

// historyOf is for any stream.
func historyOf(nc *nats.Conn, name, prefix string) *history {
	return &history{nc: nc, name: name, prefix: prefix, took: newHistogram("history_request_seconds",
		"Time from a request made to the stream to the end of its answer.")}
}

func (h *history) register(reg prometheus.Registerer) {
	for name, v := range map[string]struct {
		help string
		n    *atomic.Uint64
	}{
		"history_requests_total":       {"Requests made to the stream.", &h.asked},
		"history_request_errors_total": {"Requests made to the stream that it did not answer, or refused.", &h.failed},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_ssenode_" + name, Help: v.help},
			func() float64 { return float64(v.n.Load()) }))
	}
	reg.MustRegister(h.took)
}

// ask counts a request; what it returns is called at its end.
func (h *history) ask() func(*error) {
	h.asked.Add(1)
	began := time.Now()
	return func(err *error) {
		h.took.Observe(time.Since(began).Seconds())
		if *err != nil && !errors.Is(*err, errNothing) {
			h.failed.Add(1)
		}
	}
}

// record is a message of the stream.
type record struct {
	subject string // without the prefix
	seq     uint64
	at      time.Time
	data    []byte
}

// page is a stretch of the messages of one subject or pattern.
type page struct {
	records []record
	// pending is how many matching messages followed the last one when the page
	// was read, as far as the replica knew.
	pending uint64
	// through is the sequence up to which the page is complete for a reader
	// that trusts the replica.
	through uint64
	// first is the stream's first sequence, read after the page: what was below
	// it may have been missing from the page.
	first uint64
}

var (
	errNothing = errors.New("no such message in the stream")
	errLate    = errors.New("the replica lags behind")
	errTorn    = errors.New("a part of the answer was lost with the connection")
)

// getRequest is JetStream's request for messages (ADR-31).
type getRequest struct {
	Seq       uint64   `json:"seq,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	NextFor   string   `json:"next_by_subj,omitempty"`
	LastFor   string   `json:"last_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	UpTo      uint64   `json:"up_to_seq,omitempty"`
}

// many makes a direct get. It is answered by one message, or, if it is for a
// batch or for several subjects, by any number of them and an end.
func (h *history) many(ctx context.Context, req getRequest, each func(record)) (end nats.Header, err error) {
	single := req.Batch == 0 && len(req.MultiLast) == 0
	body, _ := json.Marshal(req) // strings and numbers
	inbox := h.nc.NewInbox()
	sub, err := h.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", h.name, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only once the connection is closed
	defer h.ask()(&err)
	if err := h.nc.PublishRequest("$JS.API.DIRECT.GET."+h.name, inbox, body); err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", h.name, err)
	}
	// A long answer may take longer than a replica may take to begin it.
	patience := askLimit
	if limit, ok := ctx.Deadline(); ok {
		patience = time.Until(limit)
	}
	for last, parts := uint64(0), 0; ; parts++ {
		m, err := sub.NextMsg(patience)
		if err != nil {
			return nil, fmt.Errorf("read from stream %s: after %d messages of an answer: %w", h.name, parts, err)
		}
		// Each message names the one before it in the answer. After a reconnection
		// in the middle of an answer only the rest of it comes.
		status := m.Header.Get("Status")
		if (status == "" || status == "204") && number(m.Header, wire.HeaderLastSequence) != last {
			return nil, fmt.Errorf("read from stream %s: %w", h.name, errTorn)
		}
		switch {
		case status == "204":
			return m.Header, nil
		case status == "404":
			return nil, errNothing
		case status != "":
			return nil, fmt.Errorf("read from stream %s: %s %s", h.name, status, m.Header.Get("Description"))
		}
		r, err := h.record(m)
		if err != nil {
			return nil, err
		}
		last = r.seq
		each(r)
		if single {
			return m.Header, nil
		}
	}
}

func (h *history) record(m *nats.Msg) (record, error) {
	r := record{seq: number(m.Header, wire.HeaderSequence), data: m.Data}
	subject := lastOf(m.Header["Nats-Subject"])
	if r.seq == 0 || len(subject) <= len(h.prefix) {
		return r, fmt.Errorf("read from stream %s: answer without sequence or subject", h.name)
	}
	r.subject = subject[len(h.prefix):]
	r.at, _ = time.Parse(time.RFC3339Nano, lastOf(m.Header["Nats-Time-Stamp"]))
	return r, nil
}

// number reads a header of the server's, 0 without it. A message that was
// republished twice has several values: the last counts.
func number(h nats.Header, key string) uint64 {
	n, err := strconv.ParseUint(lastOf(h[key]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func lastOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// page reads messages of a subject, wildcards included, after a sequence.
func (h *history) page(ctx context.Context, subject string, after uint64) (page, error) {
	p := page{through: after}
	end, err := h.many(ctx, getRequest{Seq: after + 1, Batch: pageCount, MaxBytes: pageBytes, NextFor: h.prefix + subject}, func(r record) {
		p.through = r.seq
		if r.subject[0] != '$' || subject[0] == '$' {
			p.records = append(p.records, r)
		}
	})
	if err != nil && !errors.Is(err, errNothing) {
		return page{}, err
	}
	p.pending = number(end, "Nats-Num-Pending")
	p.first, err = h.first(ctx)
	return p, err
}

// first is the stream's first sequence, 0 for an empty stream.
func (h *history) first(ctx context.Context) (uint64, error) {
	first := uint64(0)
	// Not as a batch, of which the server would count the rest; and not by our
	// prefix, which is in all its subjects, for it would look at each of them.
	_, err := h.many(ctx, getRequest{Seq: 1, NextFor: ">"}, func(r record) { first = r.seq })
	if errors.Is(err, errNothing) {
		err = nil
	}
	return first, err
}

// last reads the last message of each of the subjects, at most lastCount, that
// is not older than since. upTo is where the replica's stream ended.
func (h *history) last(ctx context.Context, subjects []string, since, notAfter uint64) (list []record, upTo uint64, err error) {
	want := make([]string, 0, len(subjects)+1)
	for _, s := range subjects {
		want = append(want, h.prefix+s)
	}
	// Without any result there would be no answer to tell how far it goes.
	want = append(want, h.prefix+wire.PulseToken)
	for {
		n := len(list)
		end, err := h.many(ctx, getRequest{MultiLast: want, Seq: since, UpTo: notAfter, MaxBytes: pageBytes}, func(r record) {
			since = r.seq + 1
			list = append(list, r)
		})
		if errors.Is(err, errNothing) && notAfter != 0 {
			return list, notAfter, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if upTo == 0 {
			upTo = number(end, "Nats-UpTo-Sequence")
		}
		if number(end, "Nats-Num-Pending") == 0 || len(list) == n {
			return list, upTo, nil
		}
		notAfter = upTo
	}
}

// How long one question to the stream may take, the first time and later.
const (
	askFirst = time.Second
	askLimit = 2 * time.Second
	askAgain = 200 * time.Millisecond
)

// insist asks until it is answered or ctx ends: replicas first, which may be
// stuck or lag behind (errLate), from the third time on the leader, and in
// between replicas again.
func insist[T any](ctx context.Context, ask func(ctx context.Context, leader bool) (T, error)) (T, error) {
	for try := 0; ; try++ {
		limit, leader := askLimit, try%4 >= 2
		if try == 0 {
			limit = askFirst
		}
		one, cancel := context.WithTimeout(ctx, limit)
		v, err := ask(one, leader)
		cancel()
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		wait := askAgain
		if errors.Is(err, errLate) && try < 2 {
			wait = askAgain / 10
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return v, err
		}
	}
}

// reaching reads a page that is complete up to seq, or full.
func (h *history) reaching(ctx context.Context, subject string, after, seq uint64) (page, error) {
	return insist(ctx, func(ctx context.Context, leader bool) (page, error) {
		if leader {
			return h.leaderPage(ctx, subject, after)
		}
		p, err := h.page(ctx, subject, after)
		if err == nil && p.pending == 0 && p.through < seq {
			return page{}, errLate // or it has gone meanwhile, as the leader will tell
		}
		return p, err
	})
}

// lastSince reads which of the subjects have a message since a sequence, and
// their last ones, from a replica that knows of the sequence head.
func (h *history) lastSince(ctx context.Context, subjects []string, since, head uint64) (list []record, upTo uint64, err error) {
	_, err = insist(ctx, func(ctx context.Context, leader bool) (_ struct{}, err error) {
		if leader {
			list, upTo, err = h.leaderLasts(ctx, subjects, head)
		} else if list, upTo, err = h.last(ctx, subjects, since, 0); err == nil && upTo < head {
			err = errLate
		}
		return struct{}{}, err
	})
	return list, upTo, err
}

// each reads all messages of a subject of ours after a sequence, up to seq.
func (h *history) each(ctx context.Context, subject string, after, seq uint64, f func(record)) error {
	for after < seq {
		p, err := h.reaching(ctx, subject, after, seq)
		if err != nil {
			return err
		}
		for _, r := range p.records {
			f(r)
		}
		if p.pending == 0 {
			return nil
		}
		after = p.through
	}
	return nil
}
