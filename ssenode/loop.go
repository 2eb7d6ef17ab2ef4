package ssenode

import (
	"cmp"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ssenode/auth"
	"sluice/ssenode/engine"
)

// queueBytes bounds what may wait for a loop; the dispatcher waits for room.
const queueBytes = 32 << 20

// op is one thing that a loop is given: a frame for the clients of a topic, or
// a new session. One queue holds both, so a session has its place in the order
// of frames.
type op struct {
	topic   *topic
	frame   *frame
	session *session
	call    func()
}

// place is how far the dispatcher has come.
type place struct {
	n   uint64 // number of the newest frame
	seq uint64 // highest sequence
}

// loop is the event side of one engine loop: it owns its sessions and gives
// them every frame in the dispatcher's order.
type loop struct {
	index     int
	engine    engine.Loop
	hub       *hub
	stats     *stats
	fetcher   *fetcher
	nodeEpoch *atomic.Pointer[string]
	marks     *atomic.Pointer[[]*mark] // of the stream, the node's
	heartbeat time.Duration
	stuck     time.Duration
	// behindAfter is SSENODE_BEHIND_AFTER.
	behindAfter time.Duration
	retry       time.Duration
	leeway      time.Duration // of tokens' ends
	maxAge      time.Duration // 0: none
	began       time.Time     // when it was made
	seed        maphash.Seed  // of lifetimes
	// revocations are nil without authentication.
	revocations *auth.Revocations
	clients     *clients // by their ids

	mu     sync.Mutex // guards the following fields
	queue  []op
	bytes  int64
	posted place // all frames up to here that are this loop's were queued
	ending bool  // nothing is queued any more
	room   *sync.Cond

	guarded atomic.Bool // there are early sessions, or orders

	drainFrom, drainTo atomic.Int64 // Unix nanoseconds, 0: not draining

	late atomic.Int64 // how many sessions were behind at the last tick

	// Owned by the loop goroutine.
	sessions   turns
	behind     map[*session]struct{}
	leaving    []*session
	spare      []op
	n          uint64                  // number of the newest frame or mark handled
	seq        uint64                  // highest sequence handled
	epoch      string                  // of the stream; all sequences here are of it
	verified   uint64                  // sequence up to which nothing is missing
	told       []*mark                 // of late, for sessions that are behind
	forgotten  uint64                  // number of the newest mark no longer in told
	restarted  struct{ n, seq uint64 } // the last restart of the stream, and its first pulse
	early      []*session              // that joined at a number that is not posted yet
	orders     []*order                // likewise: changes of sessions' channels
	fresh      []*session              // that are not settled
	withholds  bool                    // nobody is settled
	polls      []*session              // that got something
	passes     passes                  // sessions whose token ends
	evicted    uint64                  // version of the revocations that was looked at
	ticks      int
	drainTotal int           // sessions when the drain began
	dirty      []*localTopic // topics with frames in the batch in work
	touched    []touched     // sessions with several subscriptions in the batch
	scratch    []*frame
	urgent     []*frame // likewise, for what goes out of turn
	reach      reach
	joined     []byte
	// spareShares are those not in use.
	spareShares []*share
}

func newLoop(i int, e engine.Loop, n *Node) *loop {
	s := &n.cfg.SSENode
	l := &loop{
		index: i, engine: e, hub: n.hub, stats: n.stats, fetcher: n.fetcher,
		nodeEpoch: &n.epoch, marks: &n.dispatch.marks,
		heartbeat: s.Heartbeat, stuck: s.StuckAfter, behindAfter: s.BehindAfter, retry: s.Retry, leeway: s.JWT.Leeway,
		maxAge: s.MaxAge, began: time.Now(), seed: maphash.MakeSeed(),
		clients:  newClients(),
		sessions: newTurns(int(cmp.Or(s.Heartbeat, unspoken*engine.TickEvery) / engine.TickEvery)),
		behind:   map[*session]struct{}{},
	}
	if n.guard.On() {
		l.revocations = n.guard.Revocations
	}
	l.room = sync.NewCond(&l.mu)
	return l
}

// lags tells whether the node knows of another epoch than the loop was told of. It
// will be, and then lets go on who waits for that.
func (l *loop) lags() bool {
	e := l.nodeEpoch.Load()
	return e != nil && *e != l.epoch
}

// post queues frames, waiting while the loop has too much to do. With them, all
// frames up to the place are queued.
func (l *loop) post(frames []op, bytes int64, upTo place) {
	l.mu.Lock()
	for len(frames) > 0 && l.bytes > queueBytes && !l.ending {
		l.room.Wait()
	}
	if !l.ending {
		l.queue = append(l.queue, frames...)
		l.bytes += bytes
	}
	l.posted = upTo
	l.mu.Unlock()
	if len(frames) > 0 || l.guarded.Load() {
		l.engine.Wake()
	}
}

// adopt hands a session over to the loop. It returns false when the node ends.
func (l *loop) adopt(s *session) bool {
	l.mu.Lock()
	ok := !l.ending
	if ok {
		l.queue = append(l.queue, op{session: s})
	}
	l.mu.Unlock()
	l.engine.Wake()
	return ok
}

// ask runs f on the loop's goroutine, after what is queued. It is dropped when
// the node ends.
func (l *loop) ask(f func()) {
	l.mu.Lock()
	if !l.ending {
		l.queue = append(l.queue, op{call: f})
	}
	l.mu.Unlock()
	l.engine.Wake()
}

// end lets nobody wait for room any more; what is queued is forgotten.
func (l *loop) end() {
	l.mu.Lock()
	l.ending = true
	l.room.Broadcast()
	l.mu.Unlock()
}

// Woken takes what is queued and gives it to the sessions.
func (l *loop) Woken() {
	l.mu.Lock()
	ops := l.queue
	l.queue = l.spare[:0]
	l.bytes = 0
	posted := l.posted
	l.room.Broadcast()
	l.mu.Unlock()
	for i := 0; i < len(ops); {
		switch {
		case ops[i].session != nil:
			l.admit(ops[i].session)
			i++
			continue
		case ops[i].call != nil:
			ops[i].call()
			i++
			continue
		}
		j := i
		for j < len(ops) && ops[j].frame != nil {
			j++
		}
		l.sweep(ops[i:j])
		i = j
	}
	l.n, l.seq = max(l.n, posted.n), max(l.seq, posted.seq)
	l.goOn()
	for i, s := range l.polls {
		s.polled()
		l.polls[i] = nil
	}
	l.polls = l.polls[:0]
	l.bury()
	clear(ops)
	if cap(ops) <= 1<<14 {
		l.spare = ops
	} else {
		l.spare = nil
	}
}

// admit makes the session one of the loop's. It starts behind, at the position
// where it joined its topics, and so gets exactly what came since.
func (l *loop) admit(s *session) {
	if s.poll() == nil {
		if err := l.engine.Add(s.sock, s); err != nil {
			l.hub.leave(s)
			l.stats.closed(failed)
			return
		}
		l.clients.add(s)
	}
	l.sessions.add(s)
	l.passes.add(s)
	s.behind = true
	for i := range s.subs {
		s.subs[i].topic.on(l).add(s, i)
	}
	s.since = time.Now().UnixNano()
	l.behind[s] = struct{}{}
	if s.unsettled = l.withholds || !s.settled() || s.owesOld(); s.unsettled {
		l.fresh = append(l.fresh, s)
	}
	l.later(s, s.cursor)
	l.evictRevoked(s) // it may have been since the request was granted
}

// later lets the session go on once the loop has handled the number n.
func (l *loop) later(s *session, n uint64) {
	s.early, s.until = true, n
	l.early = append(l.early, s)
	l.engine.Wake()
}

// goOn lets sessions begin for which the loop is far enough now: no frame from
// before they joined can come any more.
func (l *loop) goOn() {
	if len(l.early) == 0 && len(l.orders) == 0 {
		return
	}
	early := l.early
	l.early = nil
	for _, s := range early {
		if s.early = s.until > l.n; s.early {
			l.early = append(l.early, s)
		}
		s.catchUp()
	}
	l.carryOut()
	l.guarded.Store(len(l.early)+len(l.orders) > 0)
	if len(l.early)+len(l.orders) == 0 {
		return
	}
	// A post that came before it was guarded has woken nobody.
	l.mu.Lock()
	posted := l.posted
	l.mu.Unlock()
	if posted.n > l.n {
		l.engine.Wake()
	}
}

// drop closes a session; it is taken out of all lists by bury, because a sweep
// may be in the middle of them.
func (l *loop) drop(s *session, r reason, cause error) {
	if s.closed {
		return
	}
	stream := s.poll() == nil
	if stream {
		s.noteClose(&l.stats.diary, r, cause)
		l.stats.closed(r) // first: who has read to the end of a stream finds it counted
	}
	s.closed, s.behind = true, true
	s.sock.Close()
	if s.lag != nil {
		s.rest, s.next = nil, nil
	}
	l.leaving = append(l.leaving, s)
	if stream {
		l.stats.debugClose(s, r, cause)
	}
}

func (l *loop) bury() {
	for i, s := range l.leaving {
		l.leaving[i] = nil
		delete(l.behind, s)
		l.sessions.remove(s)
		l.passes.remove(s)
		if s.poll() == nil {
			l.clients.remove(s)
		}
		for k := range s.subs {
			s.subs[k].topic.byLoop[l.index].local.remove(s, k)
		}
		l.hub.leave(s)
		s.forgetChanges()
		s.subs = nil
	}
	l.leaving = l.leaving[:0]
}

// Tick does what depends on time: heartbeats, stuck clients, the drain.
func (l *loop) Tick(now time.Time) {
	l.ticks++
	l.late.Store(int64(len(l.behind)))
	if l.heartbeat > 0 {
		l.beat()
	}
	if l.ticks%4 == 0 {
		limit := now.Add(-l.stuck).UnixNano()
		for s := range l.behind {
			if s.since < limit && !s.waiting && !(s.replaying && len(s.rest) == 0) {
				l.drop(s, stuck, nil)
			}
		}
	}
	l.expire(now)
	l.evict()
	if l.maxAge > 0 {
		l.retire(now)
	}
	if from := l.drainFrom.Load(); from != 0 {
		l.bury() // whoever has left just now is part of the share that is due
		l.drain(from, l.drainTo.Load(), now.UnixNano())
	}
	l.bury()
}

var heartbeatText = []byte(":heartbeat\n\n")

// beat sends a heartbeat to the sessions whose turn it is.
func (l *loop) beat() {
	for _, s := range l.sessions.due(l.ticks) {
		if !s.behind {
			s.beat(heartbeatText)
		}
	}
}
