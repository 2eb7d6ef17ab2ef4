package ssenode

import (
	"hash/maphash"
	"time"

	"sluice/ssenode/engine"
)

// SSENODE_MAX_AGE: clients stay where they are, so a node that was added gets only those
// that come anew. Streams that end after a while are spread over all nodes again.

// unspoken is how many lists there are of sessions that get no heartbeats.
const unspoken = 120

// age is how long a session has been there, give or take a tick. It goes by the time
// since the loop was made, not by the clock: nobody gets old when that is put right.
func (s *session) age(now time.Time) time.Duration {
	return now.Sub(s.loop.began) - time.Duration(s.subs[:1][0].born)*engine.TickEvery
}

// bornNow is what is kept of a session that comes now.
func (l *loop) bornNow() uint32 { return uint32(time.Since(l.began) / engine.TickEvery) }

// born is when the client came.
func (s *session) born() time.Time {
	now := time.Now()
	return now.Add(-s.age(now))
}

// lifetime is how old the session may get: the limit give or take a fifth, so that those
// who came at once do not leave at once. It is the same each time, and costs no room.
func (l *loop) lifetime(s *session) time.Duration {
	fifth := l.maxAge / 5
	h := maphash.Comparable(l.seed, struct {
		clientID string
		born     uint32
	}{s.clientID, s.subs[:1][0].born})
	return l.maxAge - fifth + time.Duration(h%uint64(2*fifth+1))
}

// retire closes streams that are old enough. At each tick it looks at a part of them, so
// that each is looked at once in a tenth of the limit (at each tick if that is less than
// two), or between two heartbeats if that is sooner.
func (l *loop) retire(now time.Time) {
	lists := l.sessions.lists
	parts := max(1, min(int(l.maxAge/10/engine.TickEvery), len(lists)))
	for i := l.ticks % parts; i < len(lists); i += parts {
		for _, s := range lists[i] {
			if !s.rests() {
				continue
			}
			late := s.age(now) - l.lifetime(s)
			if late < 0 || late < l.maxAge/5 && s.holdsBack() {
				continue
			}
			s.farewell()
			if !s.behind { // or it has not got all of it
				l.drop(s, aged, nil)
			}
		}
	}
}

// rests tells whether the session loses nothing by being closed just now. A poll ends by
// itself soon. Who is behind would have to begin a part of it again, and a client that
// always is would never get any further. Who has no position yet has nothing to come
// back with; and while ids are withheld, what was given without one would come again. So
// it would while throttle= holds something back, but of a busy channel that is nearly
// always so, and retire does not wait for long.
func (s *session) rests() bool {
	return !s.behind && !s.unsettled && s.given != 0 && s.poll() == nil
}
