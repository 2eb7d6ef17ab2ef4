package ssenode

import (
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/route"
)

// topic is one subject, literal or with wildcards, that clients of this node
// watch now or watched a moment ago.
type topic struct {
	// Static after construction.
	pattern channel.Pattern
	name    string // the channel, or the pattern's text
	literal bool
	route   *route.Route // of the channel; nil for a pattern with wildcards
	// Whether it is, or may have, channels with history=off and with throttle=.
	live, throttles bool

	// Guarded by hub.mu.
	sub    *nats.Subscription
	refs   int // sessions
	idle   int64
	byLoop []int32 // sessions by loop; read by the dispatcher under the read lock

	ready atomic.Pointer[chan struct{}] // closed once its place in the stream is known
	// settled is 0 until a pulse was checked since it is known; until then clients
	// get no ids. It is one more than the number that frames had come to then.
	settled atomic.Uint64
	wraps   atomic.Int32 // sessions that want wrap=1

	// Owned by the dispatcher.
	chain       chain
	settleAfter uint64 // the pulse must be later than this

	mu   sync.Mutex // guards ring and past
	ring ring
	past past

	local []localTopic // by loop; each owned by that loop's goroutine
}

// localTopic is what one loop knows of a topic.
type localTopic struct {
	clients []client
	// Frames of the batch in work, and their bytes joined for one write.
	pending []*frame
	old     bool           // some of them are
	owed    int            // events held back by throttle=
	joined  *[forms]joined // while a batch is in work
}

// client is a session's place in a topic's list.
type client struct {
	*session
	sub int32 // index in session.subs
}

// subject is what the topic is subscribed to, below the live prefix.
func (t *topic) subject() string { return t.pattern.Subject() }

func (t *topic) nowReady() {
	if ready := t.ready.Swap(&always); ready != &always {
		close(*ready)
	}
}

// always is what a topic that is ready has instead of a channel of its own.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (lt *localTopic) add(s *session, sub int) {
	s.subs[sub].place = int32(len(lt.clients))
	lt.clients = append(lt.clients, client{s, int32(sub)})
}

func (lt *localTopic) remove(s *session, sub int) {
	i, last := int(s.subs[sub].place), len(lt.clients)-1
	moved := lt.clients[last]
	lt.clients[i] = moved
	moved.subs[moved.sub].place = int32(i)
	lt.clients[last] = client{}
	lt.clients = lt.clients[:last]
	if last == 0 {
		lt.clients = nil
	} else if cap(lt.clients) > 64 && last < cap(lt.clients)/4 {
		lt.clients = append(make([]client, 0, last*2), lt.clients...)
	}
}
