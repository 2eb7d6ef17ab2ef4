package main

import (
	"testing"
	"time"
)

// lossRate is what is published in the tests in which something has to be lost.
const lossRate = 5000

// missedOnly demands that every message from first to before last is missing, if
// there are any, and none outside of may, and that each hole was told of.
func (ls *listeners) missedOnly(must, may [2]counts) {
	t := ls.pair.t
	t.Helper()
	missing := ls.missing(func(c int, h hole) {
		if h.from < may[0][c] || h.to > may[1][c] {
			t.Errorf("channel %d: %d to %d are missing, nothing outside of %d to %d may be", c, h.from, h.to-1, may[0][c], may[1][c]-1)
		}
	})
	for _, l := range ls.all {
		l.mu.Lock()
		for c, p := range l.places {
			for n := must[0][c]; n < must[1][c]; n++ {
				if !p.misses(n) {
					t.Errorf("channel %d: %d came, although no bridge was there", c, n)
					break
				}
			}
		}
		l.mu.Unlock()
	}
	gaps, everyone := ls.told()
	if !everyone {
		t.Error("some client was not told")
	}
	t.Logf("missing: %d, at least %d, at most %d; told: %v", missing, must[1].total()-must[0].total(), may[1].total()-may[0].total(), gaps)
}

func (p *place) misses(n int) bool {
	for _, h := range p.holes {
		if n >= h.from && n < h.to {
			return true
		}
	}
	return false
}

// While no bridge has a link to Redis, exactly what is published is missing: all
// clients are told so in its place, those that are there and those that come
// back later.
func TestBothBridgesWithoutRedis(t *testing.T) {
	needTakeovers(t)
	p := newPair(t, 2)
	load := newPaced(p, false)
	ls, away := listen(p, load, 25, false), listen(p, load, 5, false)
	load.start(lossRate)
	away.flowing()
	away.leave()
	safe := ls.flowing()
	for _, m := range p.bridges {
		m.redis.Shut()
	}
	alone := load.begun()
	pause(t.Context(), 3*time.Second)
	missed := load.sent()
	for _, m := range p.bridges {
		m.redis.Reopen()
	}
	p.await()
	back := load.begun()
	load.more(lossRate)
	load.finish()
	ls.caughtUp(load.sent())
	away.comeBack()
	away.caughtUp(load.sent())
	must, may := [2]counts{alone, missed}, [2]counts{safe, back}
	ls.missedOnly(must, may)
	away.missedOnly(must, may)
}

// Redis is killed and started again: delivery goes on, and all are told.
func TestRedisRestart(t *testing.T) {
	needTakeovers(t)
	p := newPair(t, 2)
	load := newPaced(p, false)
	ls := listen(p, load, 25, false)
	load.start(lossRate)
	safe := ls.flowing()
	load.mayFail.Store(true)
	kill(t, p.redis)
	alone := load.begun()
	eventually(t, "no bridge is ready", func() bool { return p.bridges[0].state() == "" && p.bridges[1].state() == "" })
	missed := load.sent()
	if err := p.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	p.await()
	until(t, "messages reach Redis again", load.works)
	load.mayFail.Store(false)
	back := load.begun()
	load.more(lossRate)
	load.finish()
	ls.caughtUp(load.sent())
	ls.missedOnly([2]counts{alone, missed}, [2]counts{safe, back})
}
