package limits

import (
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	tallyShards = 64
	// tallyRoom bounds the keys of a shard that nothing is open of: 65,536 in all.
	// For more the one that was not used for longest of a few is forgotten.
	tallyRoom = 1024
	// tallyIdle is after how long without use a key is forgotten: by then its rates
	// allow as much as they do to a new one.
	tallyIdle = 2 * time.Second
)

// tallies count by key: an address, a subject. They are spread over shards, each
// with a lock of its own, so that clients rarely meet.
type tallies[K comparable] struct {
	attempts, calls int // allowed in a second, 0: not counted
	seed            maphash.Seed
	shards          [tallyShards]shard[K]
}

type shard[K comparable] struct {
	mu    sync.Mutex // guards the following field, and the tallies in it
	byKey map[K]*tally[K]
}

// tally is what is counted for one key. A nil one counts nothing.
type tally[K comparable] struct {
	shard    *shard[K]
	key      K
	open     int // streams and polls
	waiting  int // connections that wait for a request
	attempts *rate.Limiter
	calls    *rate.Limiter
	used     time.Time
}

func newTallies[K comparable](attempts, calls int) *tallies[K] {
	t := &tallies[K]{attempts: attempts, calls: calls, seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].byKey = map[K]*tally[K]{}
	}
	return t
}

// with runs f on the key's tally, under its lock.
func (t *tallies[K]) with(key K, now time.Time, f func(*tally[K])) {
	s := &t.shards[maphash.Comparable(t.seed, key)%tallyShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	y := s.byKey[key]
	if y == nil {
		if len(s.byKey) >= tallyRoom {
			s.makeRoom()
		}
		y = &tally[K]{shard: s, key: key}
		s.byKey[key] = y
	}
	y.used = now
	f(y)
	y.tidy()
}

// attempt tells whether the key may open one more connection now.
func (t *tallies[K]) attempt(key K, now time.Time) (ok bool) {
	t.with(key, now, func(y *tally[K]) { ok = allow(&y.attempts, t.attempts, now) })
	return ok
}

// call tells whether the key may make one more request now.
func (t *tallies[K]) call(key K, now time.Time) (ok bool) {
	t.with(key, now, func(y *tally[K]) { ok = allow(&y.calls, t.calls, now) })
	return ok
}

func allow(l **rate.Limiter, perSecond int, now time.Time) bool {
	if *l == nil {
		*l = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return (*l).AllowN(now, 1)
}

// enter counts a stream or poll, to be taken back by leave, unless there are as
// many as may be: then it returns nil.
func (t *tallies[K]) enter(key K, most int, now time.Time) (in *tally[K]) {
	t.with(key, now, func(y *tally[K]) {
		if y.open < most {
			y.open++
			in = y
		}
	})
	return in
}

// wait is enter for a connection that waits for a request, taken back by goOn.
func (t *tallies[K]) wait(key K, most int, now time.Time) (in *tally[K]) {
	t.with(key, now, func(y *tally[K]) {
		if y.waiting < most {
			y.waiting++
			in = y
		}
	})
	return in
}

func (y *tally[K]) leave() {
	if y == nil {
		return
	}
	y.shard.mu.Lock()
	defer y.shard.mu.Unlock()
	y.open--
	y.tidy()
}

func (y *tally[K]) goOn() {
	if y == nil {
		return
	}
	y.shard.mu.Lock()
	defer y.shard.mu.Unlock()
	y.waiting--
	y.tidy()
}

// tidy forgets a tally that is as good as a new one. The caller holds the lock.
func (y *tally[K]) tidy() {
	if y.idle() && y.attempts == nil && y.calls == nil {
		delete(y.shard.byKey, y.key)
	}
}

func (y *tally[K]) idle() bool { return y.open == 0 && y.waiting == 0 }

// makeRoom forgets one of the keys that nothing is open of, if some look finds
// one. A shard with none is as large as there are connections.
func (s *shard[K]) makeRoom() {
	var oldest *tally[K]
	looks := 0
	for _, y := range s.byKey { // begins anywhere
		if y.idle() && (oldest == nil || y.used.Before(oldest.used)) {
			oldest = y
		}
		if looks++; looks == 16 {
			break
		}
	}
	if oldest != nil {
		delete(s.byKey, oldest.key)
	}
}

// forget lets go of keys that were not used for a while.
func (t *tallies[K]) forget(now time.Time) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for key, y := range s.byKey {
			if y.idle() && now.Sub(y.used) >= tallyIdle {
				delete(s.byKey, key)
			}
		}
		s.mu.Unlock()
	}
}

// size is how many keys are known.
func (t *tallies[K]) size() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.byKey)
		s.mu.Unlock()
	}
	return n
}
