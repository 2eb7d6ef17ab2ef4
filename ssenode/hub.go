package ssenode

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/route"
	"sluice/shared/wire"
)

const (
	// inboxSize is how many messages may wait for the dispatcher; more are
	// dropped by nats.go and counted as slow-consumer.
	inboxSize = 1 << 16
	// flushLimit bounds how long a new client waits until its subscriptions are
	// confirmed and their place in the stream is known, before it is told that
	// it is connected.
	flushLimit = 2 * time.Second
)

// hub knows the topics of a node: it subscribes when the first client of a
// topic comes and unsubscribes a while after the last one left. All
// subscriptions of a node share one connection and one Go channel, so what
// arrives has one order.
type hub struct {
	nc     *nats.Conn
	stream wire.Stream
	routes *route.Table
	linger time.Duration
	loops  int
	log    *slog.Logger

	inbox chan *nats.Msg  // to the dispatcher
	done  <-chan struct{} // closed when the node ends

	mu     sync.RWMutex                  // guards the following fields
	topics map[string]*topic             // by subject
	bySub  map[*nats.Subscription]*topic // of patterns with wildcards
	idle   []*topic                      // without clients, by the time they became so
	busy   int                           // topics that have clients
	wild   wild
	n      uint64 // number of the newest frame; written by the dispatcher under the read lock

	fresh func(*topic) // told of each new topic; must not block
}

func newHub(nc *nats.Conn, cfg *Config, loops int, done <-chan struct{}, log *slog.Logger) *hub {
	return &hub{
		nc: nc, stream: cfg.Stream, routes: &cfg.Routes, linger: cfg.SSENode.Linger, loops: loops, log: log,
		inbox:  make(chan *nats.Msg, inboxSize),
		done:   done,
		topics: map[string]*topic{},
		bySub:  map[*nats.Subscription]*topic{},
	}
}

// join makes the session a client of its topics on its loop. It returns the
// number of the newest frame that came before: everything later is the
// session's. The channels returned are closed when new topics are ready (see
// learner); usually there are none.
func (h *hub) join(want []channel.Pattern, s *session) (n uint64, wait []chan struct{}, err error) {
	h.mu.Lock()
	var fresh []*topic
	for _, p := range want {
		t, isNew, e := h.topicLocked(p)
		if e != nil {
			err = e
			break
		}
		h.joinLocked(t, s.loop, s.wrap)
		s.subs = append(s.subs, sub{topic: t})
		if isNew {
			fresh = append(fresh, t)
		}
		if ready := t.ready.Load(); ready != &always {
			wait = append(wait, *ready)
		}
	}
	n = h.n
	h.mu.Unlock()
	if err != nil {
		h.leave(s)
		return 0, nil, err
	}
	for _, t := range fresh {
		h.fresh(t)
	}
	return n, wait, nil
}

func (h *hub) joinLocked(t *topic, l *loop, wrap bool) {
	if t.refs++; t.refs == 1 {
		h.busy++
	}
	t.byLoop[l.index].sessions++
	if wrap {
		t.wraps.Add(1)
	}
}

func (h *hub) leaveLocked(t *topic, l *loop, wrap bool) {
	t.refs--
	t.byLoop[l.index].sessions--
	if wrap {
		t.wraps.Add(-1)
	}
	if t.refs == 0 {
		h.busy--
		t.idle = time.Now().Add(h.linger).UnixNano()
		h.idle = append(h.idle, t)
	}
}

// hold is join for who will be a client of the topic on that loop: what is numbered
// above n comes to the loop until release.
func (h *hub) hold(p channel.Pattern, l *loop) (t *topic, n uint64, ready chan struct{}, err error) {
	h.mu.Lock()
	t, isNew, err := h.topicLocked(p)
	if err != nil {
		h.mu.Unlock()
		return nil, 0, nil, err
	}
	h.joinLocked(t, l, false)
	n, ready = h.n, *t.ready.Load()
	h.mu.Unlock()
	if isNew {
		h.fresh(t)
	}
	return t, n, ready, nil
}

// release is the reverse of hold.
func (h *hub) release(t *topic, l *loop) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveLocked(t, l, false)
}

// joinOne makes the session a client of one more topic, which is held.
func (h *hub) joinOne(t *topic, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joinLocked(t, s.loop, s.wrap)
}

// leaveOne is the reverse of joinOne.
func (h *hub) leaveOne(t *topic, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveLocked(t, s.loop, s.wrap)
}

func (h *hub) topicLocked(p channel.Pattern) (t *topic, isNew bool, err error) {
	subject := p.Subject()
	if t := h.topics[subject]; t != nil {
		return t, false, nil
	}
	t = &topic{
		pattern: p, literal: p.Literal(),
		byLoop: make([]perLoop, h.loops),
	}
	ready := make(chan struct{})
	t.ready.Store(&ready)
	t.ring.evicted = h.n // what came before is not in the ring
	if t.literal {
		if _, err := channel.FromSubject(subject); err != nil {
			return nil, false, fmt.Errorf("channel of subject %q: %w", subject, err)
		}
		t.route = h.routes.MatchSubject(subject)
		t.live = t.route.History.Off
		t.throttles = t.route.Throttle > 0
	} else {
		t.live = h.routes.Any(p, func(r *route.Route) bool { return r.History.Off })
		t.throttles = h.routes.Any(p, func(r *route.Route) bool { return r.Throttle > 0 })
	}
	t.ranks = ranksOf(t, h.routes)
	t.sub, err = h.nc.ChanSubscribe(h.stream.Live()+subject, h.inbox)
	if err != nil {
		return nil, false, fmt.Errorf("subscribe %q: %w", t.name(), err)
	}
	h.topics[subject] = t
	if !t.literal {
		h.bySub[t.sub] = t
		h.wild.add(t)
	}
	return t, true, nil
}

// leave is the reverse of join. The topics' local lists are the loop's business.
func (h *hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range s.subs {
		h.leaveLocked(s.subs[i].topic, s.loop, s.wrap)
	}
}

// sweepAtMost is how many topics are let go of at a time: a million that lost their
// clients at once must not stop the dispatcher for seconds.
const sweepAtMost = 10_000

// sweep unsubscribes topics whose linger is over. It does so after it let go of the
// lock. Who comes meanwhile makes a topic with a subscription of its own; what still
// comes on the old one is nobody's, as topicOf knows topics by their subscription.
func (h *hub) sweep(now time.Time) {
	for _, t := range h.swept(now) {
		if err := t.sub.Unsubscribe(); err != nil && !h.nc.IsClosed() {
			h.log.Debug("unsubscribe", "channel", t.name(), "error", err)
		}
	}
}

// swept takes out topics whose linger is over, and returns them.
func (h *hub) swept(now time.Time) (gone []*topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := 0
	for ; i < len(h.idle) && h.idle[i].idle <= now.UnixNano() && len(gone) < sweepAtMost; i++ {
		t := h.idle[i]
		h.idle[i] = nil
		// It may have found a client meanwhile, lost it again and stand later
		// in the list, too; or be gone already by an earlier entry.
		if t.refs > 0 || t.idle > now.UnixNano() || h.topics[t.subject()] != t {
			continue
		}
		delete(h.topics, t.subject())
		if !t.literal {
			delete(h.bySub, t.sub)
			h.wild.remove(t)
		}
		gone = append(gone, t)
	}
	h.idle = h.idle[i:]
	if len(h.idle) == 0 {
		h.idle = nil
	}
	return gone
}

// trimmed tells whether of a subject more may have been stored than was found,
// given how many were: what a channel may keep, and what the stream keeps.
func (h *hub) trimmed(subject string, found int) bool {
	return found > h.routes.MatchSubject(subject).History.Count || found >= h.routes.MaxCount()
}

// topicOf is the topic whose subscription a message came on. The caller holds the
// lock.
func (h *hub) topicOf(m *nats.Msg) *topic {
	if t := h.topics[m.Subject[min(len(m.Subject), len(h.stream.Live())):]]; t != nil && t.sub == m.Sub {
		return t
	}
	return h.bySub[m.Sub]
}

// all returns all topics. The caller holds the lock.
func (h *hub) all() []*topic { return slices.Collect(maps.Values(h.topics)) }

// counts returns how many topics there are and how many have clients.
func (h *hub) counts() (topics, watched int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.topics), h.busy
}
