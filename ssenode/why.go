package ssenode

import (
	"fmt"
	"slices"
	"time"

	"sluice/shared/channel"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/ssenode/engine"
)

// What can be told of a message and a client, in one word each. A node knows what it has
// written to a connection; what arrived, nobody here does.
const (
	whyNotConnected  = "not-connected"  // when it was stored
	whyNotSubscribed = "not-subscribed" // to its channel
	whyNoPosition    = "came-later"     // and with no position before it
	whyCriteria      = "criteria"       // are not for the client
	whyNotHere       = "not-here-yet"   // the node does not have it
	whyBacklog       = "backlog"        // it is still to come
	whyThrottled     = "throttled"      // throttle= holds it back, or gave a later one
	whySkipped       = "skipped"        // priority=low, while it was behind
	whyGiven         = "given"          // written to its connection
	whyEnded         = "ended-before"   // was connected, and closed before it was given
	whyUnknown       = "unknown"
)

// aboutThen is how far the position of a client that came without one may be behind, and
// the clocks of the stream and of the node apart.
const aboutThen = 5 * time.Second

func because(what, format string, args ...any) wire.InspectWhy {
	return wire.InspectWhy{What: what, Says: fmt.Sprintf(format, args...)}
}

// why tells what is known of the message and the session.
func (s *session) why(x *inspection) wire.InspectWhy {
	m, l := x.Message, s.loop
	i := -1
	for k := range s.subs {
		if s.subs[k].topic.pattern.MatchSubject(x.Channel) {
			i = k
			break
		}
	}
	switch {
	case i < 0:
		return because(whyNotSubscribed, "none of its %d channels and patterns is, or matches, this channel now", len(s.subs))
	case m.Epoch != l.epoch:
		return because(whyUnknown, "the message is of epoch %s, the stream of epoch %s", m.Epoch, l.epoch)
	case len(x.criteria) > 0 && !s.pass.matches(x.criteria):
		return because(whyCriteria, "the criteria of the message do not hold for its attributes")
	}
	sub := &s.subs[i]
	t := sub.topic
	if m.Seq <= s.first {
		return because(whyNoPosition, "it is connected since %s, and began at %s: by its Last-Event-ID, or because it came without one. The message is not after that",
			s.born().UTC().Format(time.RFC3339), *idText(l.epoch, s.first))
	}
	if s.behind && (s.start != nil || s.early) {
		return because(whyBacklog, "it has just come, and gets what there is for it next")
	}
	f := t.find(m.Seq)
	if s.behind {
		switch {
		case s.covers(&frame{subject: x.Channel, seq: m.Seq, n: ^uint64(0)}):
			if l.hub.routes.MatchSubject(x.Channel).Priority == route.Low {
				return because(whySkipped, "priority=low: the client was behind for too long, and the channel has skipped beyond the message; a gap with the reason dropped told so")
			}
			return because(whyGiven, "it was given before its turn, as priority=high")
		case s.replaying && s.progress != nil && s.progress[i].at < m.Seq:
			return because(whyBacklog, "the client is being brought forward from the stream or the memory of the node, and has come to %s", text(idText(l.epoch, max(s.progress[i].at, 1))))
		case !s.replaying && f != nil && f.n > s.cursor:
			return because(whyBacklog, "it is in the node's memory, and waits until the client's socket takes more; it took something %.1f s ago", time.Since(time.Unix(0, s.since)).Seconds())
		}
	}
	lt := t.on(l)
	switch {
	case s.given == m.Seq: // heartbeats carry those of pulses
		return because(whyGiven, "it was written to the connection, as the last event that had an id. Whether the page got it is not known here")
	case m.Seq > max(l.verified, lt.last) && f == nil:
		return because(whyNotHere, "the node has not got it: it knows that it has everything up to %s", text(idText(l.epoch, l.verified)))
	case lt.owed > 0 && m.Seq >= lt.held:
		return because(whyThrottled, "throttle= holds the channel back just now")
	case f == nil && t.throttles && t.has(m.Seq):
		return because(whyThrottled, "throttle=: a later one came within the interval, and was given")
	case m.Seq <= sub.replayed:
		return because(whyGiven, "it was given from the stream; or the channel was added to the connection after it, which is not known any more")
	case f == nil && t.throttles:
		return because(whyUnknown, "the channel has throttle=, and the node remembers too little to tell whether the message or a later one was given")
	case !m.At.IsZero() && m.At.Before(s.born().Add(engine.TickEvery)) && s.born().Sub(m.At) < aboutThen:
		return because(whyUnknown, "it was stored about when the client connected, at %s: if that was before, it was given to a client that came with a position before it, and not to another", s.born().UTC().Format(time.RFC3339))
	case !m.At.IsZero() && m.At.Before(s.born()):
		return because(whyGiven, "it was stored before the client connected, which came with a position before it: it was written to the connection")
	}
	return because(whyGiven, "it was written to the connection: the client's kernel, or a proxy on the way, has taken it. Whether the page got it is not known here")
}

func text(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

// find looks for a message in the topic's ring.
func (t *topic) find(seq uint64) *frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := int(t.ring.len) - 1; k >= 0 && t.ring.at(k).key >= seq; k-- {
		if f := t.ring.at(k); f.seq == seq {
			return f
		}
	}
	return nil
}

// has tells whether a message with that sequence would be in the ring, if it had been
// given out.
func (t *topic) has(seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ring.known != 0 && seq > t.ring.from
}

// why tells what is known of the message and a stream that was closed.
func (n *closeNote) why(x *inspection) wire.InspectWhy {
	m := x.Message
	subscribed := slices.Contains(n.channels.list(), x.Channel) || slices.ContainsFunc(n.patterns.list(), func(text string) bool {
		p, err := channel.ParsePattern(text)
		return err == nil && p.MatchSubject(x.Channel)
	})
	switch {
	case !subscribed && n.channels.more+n.patterns.more == 0:
		return because(whyNotSubscribed, "it had not this channel when it was closed")
	case m.At.IsZero():
		return because(whyUnknown, "when the message was stored is not known")
	case n.at.Before(m.At):
		return because(whyNotConnected, "it was closed %s before the message was stored", m.At.Sub(n.at).Round(time.Millisecond))
	case n.epoch == m.Epoch && n.given >= m.Seq:
		return because(whyGiven, "it was given ids up to %s: the message was before, and if it was for this client it was written to the connection", text(idText(n.epoch, n.given)))
	case n.born.After(m.At):
		return because(whyNotConnected, "it was opened after the message was stored; its last id was %s", text(idText(n.epoch, n.given)))
	}
	return because(whyEnded, "it was open when the message was stored, and closed %s later; its last id was %s, so it may not have got the message. A client that came back with that id got it then",
		n.at.Sub(m.At).Round(time.Millisecond), text(idText(n.epoch, n.given)))
}
