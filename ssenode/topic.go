package ssenode

import (
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/event"
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

	// Guarded by hub.mu.
	sub     *nats.Subscription
	refs    int // sessions
	idle    int64
	byLoop  []int32       // sessions by loop; read by the dispatcher under the read lock
	flushed chan struct{} // closed once the server knows the subscription

	wraps atomic.Int32 // sessions that want wrap=1

	mu   sync.Mutex // guards ring
	ring ring

	local []localTopic // by loop; each owned by that loop's goroutine
}

// localTopic is what one loop knows of a topic.
type localTopic struct {
	clients []client
	// Frames of the batch in work, and their bytes joined for one write.
	pending []*frame
	plain   joined
	wrapped joined
}

// client is a session's place in a topic's list.
type client struct {
	*session
	sub int32 // index in session.subs
}

// subject is what the topic is subscribed to, below the live prefix.
func (t *topic) subject() string { return t.pattern.Subject() }

// formatOf is how payloads on the subject are read.
func (t *topic) formatOf(subject string, routes *route.Table) event.Format {
	if t.route != nil {
		return t.route.Format
	}
	return routes.MatchSubject(subject).Format
}

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
