package main

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// meter measures the longest time without any message.
type meter struct{ last, worst atomic.Int64 }

func (m *meter) tick(now time.Time) {
	if before := m.last.Swap(now.UnixNano()); before != 0 {
		m.note(now.UnixNano() - before)
	}
}

func (m *meter) note(pause int64) {
	for {
		worst := m.worst.Load()
		if pause <= worst || m.worst.CompareAndSwap(worst, pause) {
			return
		}
	}
}

// hearNATS measures what comes from NATS to the nodes.
func (ls *listeners) hearNATS() {
	t := ls.pair.t
	t.Helper()
	nc, err := nats.Connect(ls.pair.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("sluice.live.paced.>", func(*nats.Msg) { ls.live.tick(time.Now()) }); err != nil {
		t.Fatal(err)
	}
}

// pauses are the longest times in which nothing came.
type pauses struct {
	nats    time.Duration // to the nodes: what is between the bridges and the stream
	clients time.Duration // of either node
}

// watchPause begins to measure; the function tells what was found up to its call.
func (ls *listeners) watchPause() func() pauses {
	ls.live.worst.Store(0)
	for i := range ls.meters {
		ls.meters[i].worst.Store(0)
	}
	return func() pauses {
		p := pauses{nats: time.Duration(ls.live.worst.Load())}
		for i := range ls.meters {
			p.clients = max(p.clients, time.Duration(ls.meters[i].worst.Load()))
		}
		return p
	}
}
