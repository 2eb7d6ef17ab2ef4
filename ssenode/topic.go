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
	route   *route.Route // of the channel; nil for a pattern with wildcards
	literal bool
	// Whether it is, or may have, channels with history=off and with throttle=.
	live, throttles bool
	ranks           ranks

	refs int32 // sessions; guarded by hub.mu, as the next two
	sub  *nats.Subscription
	idle int64

	ready atomic.Pointer[chan struct{}] // closed once its place in the stream is known
	// settled is 0 until a pulse was checked since it is known; until then clients
	// get no ids. It is one more than the number that frames had come to then.
	settled atomic.Uint64

	// Owned by the dispatcher.
	chain       chain
	settleAfter uint64 // the pulse must be later than this

	wraps atomic.Int32 // sessions that want wrap=1
	mu    sync.Mutex   // guards ring and past
	ring  ring
	past  *past // nil unless some was asked for of late

	byLoop []perLoop
}

// perLoop is what there is of a topic for each loop.
type perLoop struct {
	sessions int32       // guarded by hub.mu; the dispatcher has the read lock
	local    *localTopic // owned by the loop's goroutine; nil before its first client
}

// localTopic is what one loop knows of a topic.
type localTopic struct {
	clients []client
	share   *share // of the batch in work, else nil
	owed    int    // events held back by throttle=
	held    uint64 // of a channel the first of them; all before it were given out
	// last is the sequence of the newest message since there are clients, lastN its number.
	last, lastN uint64
}

// on is the topic's part that a loop owns.
func (t *topic) on(l *loop) *localTopic {
	at := &t.byLoop[l.index]
	if at.local == nil {
		at.local = &localTopic{}
	}
	return at.local
}

// name is the channel, or the pattern's text.
func (t *topic) name() string {
	if t.literal {
		name, _ := channel.FromSubject(t.subject()) // checked when it was subscribed
		return name
	}
	return t.pattern.String()
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
		lt.clients, lt.last, lt.lastN = nil, 0, 0
	} else if cap(lt.clients) > 64 && last < cap(lt.clients)/4 {
		lt.clients = append(make([]client, 0, last*2), lt.clients...)
	}
}
