package ssenode

import (
	"container/heap"
	"time"

	"sluice/shared/event"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// expiringBefore is how long before its end a client is told that its token
// ends; half of what is left if that is less.
const expiringBefore = time.Minute

// endless is when a token ends that has no end, or one that is too far off for
// Unix nanoseconds.
const endless = 1 << 62

// pass is for whom a session is there, and for how long. Only sessions with a token, or
// with attributes, have one, and only their loop touches it.
type pass struct {
	due    int64 // when something is to be done; Unix nanoseconds
	until  int64 // when it is closed
	bearer auth.Bearer
	at     int32 // place in loop.passes
	told   bool
	// attributes are what criteria of events are compared with.
	attributes auth.Attributes
}

// newPass is nil where there is nothing to be known.
func (n *Node) newPass(id *auth.Identity, attributes auth.Attributes) *pass {
	if id == nil && attributes == (auth.Attributes{}) {
		return nil
	}
	p := &pass{bearer: n.guard.Bearer(id), due: endless, until: endOf(id), attributes: attributes}
	if p.ends() {
		lead := min(expiringBefore, time.Until(id.Until)/2)
		p.due = id.Until.Add(-lead).UnixNano()
	}
	return p
}

// endOf is when a token ends, in Unix nanoseconds, or endless.
func endOf(id *auth.Identity) int64 {
	if id == nil || id.Until.IsZero() || !id.Until.Before(time.Unix(0, endless)) {
		return endless
	}
	return id.Until.UnixNano()
}

// ends tells whether it has an end.
func (p *pass) ends() bool { return p != nil && p.until != endless }

// matches tells whether the criteria hold.
func (p *pass) matches(c event.Criteria) bool {
	if p == nil {
		return len(c) == 0
	}
	return p.attributes.Match(c)
}

// passes are a loop's sessions whose pass ends, as a heap: the next that something is
// due for is the first. So there is no timer for each.
type passes []*session

func (p passes) Len() int           { return len(p) }
func (p passes) Less(i, j int) bool { return p[i].pass.due < p[j].pass.due }
func (p passes) Swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].pass.at, p[j].pass.at = int32(i), int32(j)
}

// Push and Pop are for package heap.
func (p *passes) Push(x any) {
	s := x.(*session)
	s.pass.at = int32(len(*p))
	*p = append(*p, s)
}

func (p *passes) Pop() any {
	last := len(*p) - 1
	s := (*p)[last]
	(*p)[last] = nil
	*p = (*p)[:last]
	return s
}

func (p *passes) add(s *session) {
	if s.pass.ends() {
		heap.Push(p, s)
	}
}

// renew gives the session a pass in place of its own.
func (p *passes) renew(s *session, newer pass) {
	p.remove(s)
	*s.pass = newer
	p.add(s)
}

func (p *passes) remove(s *session) {
	if s.pass.ends() {
		heap.Remove(p, int(s.pass.at))
	}
}

// expiringEvent is the data of `event: token-expiring`.
type expiringEvent struct {
	ExpiresAt string `json:"expiresAt"`
}

// expire tells sessions whose token ends soon, and closes those for which it
// has. Polls are answered.
func (l *loop) expire(now time.Time) {
	for len(l.passes) > 0 && l.passes[0].pass.due <= now.UnixNano() {
		s := l.passes[0]
		p := s.pass
		switch {
		case s.closed: // buried after this tick
			p.due = now.Add(time.Hour).UnixNano()
		case p.until <= now.UnixNano():
			if s.poll() != nil {
				s.endPoll()
			} else {
				l.drop(s, tokenExpired, nil)
			}
			continue
		case p.told || s.poll() != nil:
			p.due = p.until
		case s.behind: // it may be current before it ends
			p.due = min(p.until, now.Add(time.Second).UnixNano())
		default:
			p.told, p.due = true, p.until
			exp := time.Unix(0, p.until).Add(-l.leeway)
			s.giveControl(appendControl(nil, wire.ID{}, "token-expiring", expiringEvent{
				ExpiresAt: exp.UTC().Format(time.RFC3339),
			}))
		}
		heap.Fix(&l.passes, 0)
	}
}

// evict closes sessions whose token was revoked since the last time. Polls are
// answered.
func (l *loop) evict() {
	if l.revocations == nil || l.revocations.Version() == l.evicted {
		return
	}
	l.evicted = l.revocations.Version() // what comes meanwhile is looked at the next time
	for _, list := range l.sessions.lists {
		for _, s := range list {
			l.evictRevoked(s)
		}
	}
}

// evictRevoked closes the session if its token is revoked.
func (l *loop) evictRevoked(s *session) {
	if s.pass == nil || s.closed || l.revocations == nil || !l.revocations.Has(s.pass.bearer) {
		return
	}
	if c := s.poll(); c != nil {
		c.revoked = true
	}
	l.drop(s, revoked, nil)
}
