package ssenode

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/wire"
	"sluice/ssenode/engine"
)

// nowhere is a socket that takes everything: what is measured is the node's work
// for a delivery, without the kernel's.
type nowhere struct{ taken int }

func (s *nowhere) Write(p []byte) (int, error) { s.taken += len(p); return len(p), nil }
func (s *nowhere) Close()                      {}

type still struct{}

func (still) Wake()                                 {}
func (still) Stop()                                 {}
func (still) Add(engine.Socket, engine.Owner) error { return nil }
func (still) Run(engine.Handler)                    {}

// newSweep makes a loop with so many current clients of one topic.
func newSweep(clients int) (*loop, *topic, *nowhere) {
	l := &loop{engine: still{}, stats: &stats{}, sessions: newTurns(1), behind: map[*session]struct{}{}, verified: math.MaxUint64}
	p, err := channel.ParsePattern("c")
	if err != nil {
		panic(err)
	}
	t := &topic{pattern: p, literal: true, byLoop: []perLoop{{sessions: int32(clients)}}}
	sock := &nowhere{}
	for range clients {
		s := &session{loop: l, sock: sock, subs: []sub{{topic: t}}}
		l.sessions.add(s)
		t.on(l).add(s, 0)
	}
	return l, t, sock
}

// newOps makes frames of 200 bytes of data.
func newOps(t *topic, n int) (ops []op) {
	data := make([]byte, 200)
	for i := range data {
		data[i] = 'x'
	}
	for i := range n {
		f := newFrame(wire.ID{Epoch: "e1", Seq: uint64(i + 1)}, event.Event{Data: data}, "c", false)
		f.n, f.subject = uint64(i+1), "c"
		ops = append(ops, op{topic: t, frame: f})
	}
	return ops
}

// BenchmarkSweep is the fan-out of one message, and of ten that wait.
func BenchmarkSweep(b *testing.B) {
	for _, frames := range []int{1, 10} {
		for _, clients := range []int{1, 100, 10_000} {
			b.Run(fmt.Sprintf("frames=%d/clients=%d", frames, clients), func(b *testing.B) {
				l, t, _ := newSweep(clients)
				ops := newOps(t, frames)
				b.ReportAllocs()
				for b.Loop() {
					l.sweep(ops)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients*frames), "ns/delivery")
			})
		}
	}
}

// BenchmarkFrame is the encoding of one message, done once for all clients.
func BenchmarkFrame(b *testing.B) {
	raw := make([]byte, 200)
	for i := range raw {
		raw[i] = 'x'
	}
	for name, payload := range map[string][]byte{
		"raw":      raw,
		"envelope": fmt.Appendf(nil, `{"event":"bid","data":{"lot":17,"pad":%q}}`, raw[:150]),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ev, err := event.Parse(payload, event.Auto)
				if err != nil {
					b.Fatal(err)
				}
				newFrame(wire.ID{Epoch: "abcdefghij", Seq: 1234567}, ev, "auction:17", false)
			}
		})
	}
}

// BenchmarkReplay is a client that comes back and gets 100 messages out of the
// ring.
func BenchmarkReplay(b *testing.B) {
	l, t, sock := newSweep(0)
	d := &dispatcher{}
	var marks []*mark
	d.marks.Store(&marks)
	var known atomic.Pointer[string]
	l.marks, l.nodeEpoch, l.fetcher = &d.marks, &known, &fetcher{d: d}
	l.epoch = "e1"
	var log ringLog
	for _, o := range newOps(t, 1000) {
		log.add(t, o.frame, time.Now(), 1<<30, 1<<30)
		l.n, l.seq = o.frame.n, o.frame.seq
	}
	t.ring.known = 1
	t.settled.Store(1)
	b.ReportAllocs()
	for b.Loop() {
		s := &session{loop: l, sock: sock, subs: []sub{{topic: t}}, behind: true, first: 900, lag: &lag{cursor: l.n, whole: l.seq}}
		s.replayFrom(900)
		s.catchUp()
		if s.behind {
			b.Fatal("it is not done")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/event")
}
