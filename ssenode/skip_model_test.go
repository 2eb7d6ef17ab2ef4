package ssenode

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/shared/channel"
	"sluice/shared/route"
	"sluice/shared/wire"
)

// skipper is a session whose low channels are to skip, and all that is to come to it.
type skipper struct {
	s    *session
	owed []*frame // in the order of the stream
}

// newSkipper draws a client with one pattern, or one low channel, that goes by numbers or
// replays: from a ring, or before it, out of stretches that need not join; it may have
// collected more than it has written, be further on than it was before the topic was
// learned anew, and have come late what is below its place.
func newSkipper(t *rapid.T) *skipper {
	literal := rapid.Bool().Draw(t, "literal")
	replays := rapid.Bool().Draw(t, "replays")
	p, err := channel.ParsePattern(map[bool]string{true: "b:low", false: "b:*"}[literal])
	if err != nil {
		t.Fatal(err)
	}
	tp := &topic{pattern: p, literal: literal, ranks: someLow}
	if literal {
		tp.route = &route.Route{Priority: route.Low}
	}
	names := []string{"b.low", "other"}
	if !literal {
		names = []string{"b.low", "b.less", "b.n", "other"}
	}
	var stream []*frame
	const begin, end = 5, 18 // a bridge writes before the first event
	for seq := uint64(begin); seq <= end; seq++ {
		f := &frame{seq: seq, subject: rapid.SampledFrom(names).Draw(t, "subject"), plain: []byte("x")}
		if f.priority = route.Low; f.subject == "b.n" {
			f.priority = route.Normal
		}
		if f.subject != "other" {
			stream = append(stream, f)
		}
	}
	at := rapid.Uint64Range(begin-1, end-1).Draw(t, "at")
	from := uint64(0) // a message of the topic, or none
	if k := rapid.IntRange(0, len(stream)).Draw(t, "before the ring"); k > 0 && (replays || stream[k-1].seq <= at) {
		from = stream[k-1].seq
	}
	// What is in the ring was given out in the order of each channel, or nearly so.
	queue := slices.Clone(stream[countUpTo(stream, from):])
	n := uint64(100)
	tp.ring.evicted, tp.ring.known, tp.ring.from = n, n+1, from
	for highest := uint64(0); len(queue) > 0; {
		k := 0
		if rapid.IntRange(0, 9).Draw(t, "late") == 0 && !literal {
			k = rapid.IntRange(0, len(queue)-1).Draw(t, "which")
			k = slices.IndexFunc(queue, func(f *frame) bool { return f.subject == queue[k].subject })
		}
		f := queue[k]
		queue = slices.Delete(queue, k, k+1)
		n++
		f.n, f.old = n, f.seq < highest
		highest = max(highest, f.seq)
		tp.ring.push(f)
	}
	cursor := rapid.Uint64Range(100, n).Draw(t, "cursor")
	l := &loop{n: rapid.Uint64Range(cursor, n).Draw(t, "n"), stats: newStats(slog.New(slog.DiscardHandler)), epoch: "e"}
	s := &session{loop: l, sock: &nowhere{}, behind: true, ranked: true, seq: at, lag: &lag{cursor: cursor, pos: at}}
	s.subs = []sub{{topic: tp}}
	x := &skipper{s: s}
	if !replays {
		s.pos = 0
		for _, f := range stream {
			if f.n > cursor {
				x.owed = append(x.owed, f)
			}
		}
		return x
	}
	s.replays()
	s.progress[0].at = at
	s.pos += rapid.Uint64Range(0, end-at).Draw(t, "further")
	if at < from { // stretches lie about, one of them at its place
		past := tp.asked()
		for after := at; after < from; {
			through := rapid.Uint64Range(after+1, from).Draw(t, "through")
			if after == at || rapid.Bool().Draw(t, "there") {
				h := &stretch{after: after, through: through}
				h.frames = stream[countUpTo(stream, after):countUpTo(stream, through)]
				past.stretches = append(past.stretches, h)
			}
			after = through
		}
		s.subs[0].replayed = rapid.SampledFrom([]uint64{0, at, past.stretches[0].through}).Draw(t, "replayed")
	}
	for _, f := range stream {
		if f.seq > at || f.n > cursor && !literal && f.seq > s.subs[0].replayed {
			x.owed = append(x.owed, f)
		}
	}
	return x
}

// countUpTo is how many of the frames have at most that sequence.
func countUpTo(frames []*frame, seq uint64) int {
	n := 0
	for n < len(frames) && frames[n].seq <= seq {
		n++
	}
	return n
}

// told is the range of the gap that the client is told, nothing if it is told none.
func (x *skipper) told(t *rapid.T) (from, to uint64) {
	text := string(x.s.rest)
	if text == "" {
		return 0, 0
	}
	_, data, _ := strings.Cut(text, "data: ")
	var e gapEvent
	if err := json.Unmarshal([]byte(data), &e); err != nil || e.From == nil || e.To == nil || e.Reason != gapDropped {
		t.Fatalf("gap %q: %v", text, err)
	}
	seq := func(text string) uint64 {
		id, err := wire.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		return id.Seq
	}
	return seq(*e.From), seq(*e.To)
}

// Whatever a client has had, and wherever the rest is: what its low channels skip is low,
// not the newest of its channel, and told.
func TestSkipIsTold(t *testing.T) {
	skipped := 0
	for range 20 { // of a hundred each
		rapid.Check(t, func(t *rapid.T) {
			x := newSkipper(t)
			x.s.skip()
			from, to := x.told(t)
			newest := map[string]*frame{}
			for _, f := range x.owed {
				newest[f.subject] = f
			}
			for _, f := range x.owed {
				switch {
				case !x.s.done(f):
				case f.priority != route.Low || newest[f.subject] == f:
					t.Fatalf("%s %d does not come", f.subject, f.seq)
				case f.seq <= from || f.seq > to:
					t.Fatalf("%s %d is passed over, and told is %d to %d", f.subject, f.seq, from, to)
				default:
					skipped++
				}
			}
		})
	}
	if skipped == 0 {
		t.Error("nothing was skipped at all")
	}
}
