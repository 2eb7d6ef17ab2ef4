package ssenode

import (
	"cmp"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

// Reasons of `event: gap`.
const (
	gapExpired   = "history-expired"
	gapRecreated = "stream-recreated"
	gapUnknownID = "unknown-id"
	gapUpstream  = wire.GapUpstream
	gapSlow      = "slow"
	gapDropped   = wire.GapDropped
)

// mark is a place in the order of events where something may have been lost.
type mark struct {
	n      uint64 // in the node's order; 0 if it was read from the stream
	seq    uint64 // in the stream; 0 if it is not of the stream
	reason string
	// subjects that lost something; none means any.
	subjects []string
	live     bool // only channels without history lost something
	// since is, of a marked pulse, or where something was found missing, the last pulse
	// before it that is certain. Such a mark is only for ids between the two (doubt.go).
	since uint64
	at    time.Time
}

// affects tells whether the topic may have lost something.
func (m *mark) affects(t *topic) bool {
	switch {
	case m.since != 0:
		return false
	case m.live:
		return t.live
	case len(m.subjects) == 0:
		return true
	}
	return slices.ContainsFunc(m.subjects, t.pattern.MatchSubject)
}

// doubts tells whether the id may vouch for what its client never got.
func (m *mark) doubts(seq uint64) bool { return m.since != 0 && m.since < seq && seq < m.seq }

// gapMark handles a gap mark as it comes live.
func (d *dispatcher) gapMark(m *nats.Msg) {
	seq := number(m.Header, wire.HeaderSequence)
	if d.epochNow() == "" || seq <= d.markTail || seq <= d.head.Load() {
		return // the check has read it
	}
	if w, err := wire.ParseMark(m.Data); err != nil {
		d.log.Warn("gap mark not understood", "error", err)
	} else if w.Epoch == d.epochNow() {
		d.mark(markOf(w, seq))
	}
}

func markOf(w wire.Mark, seq uint64) *mark {
	return &mark{seq: seq, reason: w.Reason, subjects: w.Subjects, at: w.Time}
}

// mark tells all clients of the mark, in its place, unless it is known already.
func (d *dispatcher) mark(m *mark) {
	if m.since != 0 {
		d.addDoubt(m)
		return
	}
	if m.seq != 0 {
		if slices.ContainsFunc(*d.marks.Load(), func(have *mark) bool { return have.since == 0 && have.seq == m.seq }) {
			return
		}
		d.keepMark(m)
	}
	d.markTail = max(d.markTail, m.seq)
	d.hub.n++
	m.n = d.hub.n
	d.tell(func(l *loop) { l.mark(m) })
}

// keepMark remembers a mark of the stream for who comes back.
func (d *dispatcher) keepMark(m *mark) {
	list := *d.marks.Load()
	i, _ := slices.BinarySearchFunc(list, m.seq, func(have *mark, seq uint64) int { return cmp.Compare(have.seq, seq) })
	d.setMarks(slices.Insert(slices.Clone(list), i, m))
}

// markLive tells clients of channels without history that these may have lost
// something.
func (d *dispatcher) markLive(reason string) {
	if d.started.Load() {
		d.mark(&mark{reason: reason, live: true, at: time.Now()})
	}
}

func (d *dispatcher) setMarks(list []*mark) { d.marks.Store(&list) }

// maxMarks bounds the marks that are remembered.
const maxMarks = 4096

// forgetMarks lets go of what is older than the stream's events.
func (d *dispatcher) forgetMarks(now time.Time) {
	list, n := *d.marks.Load(), 0
	for n < len(list) && (now.Sub(list[n].at) > 2*d.hub.routes.MaxAge() || len(list)-n > maxMarks) {
		n++
	}
	if n > 0 {
		d.setMarks(slices.Clone(list[n:]))
	}
}
