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

// pass is how long a session may stay, and what is known of its client. Only sessions
// of which there is any of that have one, and only their loop touches it.
type pass struct {
	due     int64 // when something is to be done; Unix nanoseconds
	until   int64 // when it is closed
	expires int64 // what the client is told: exp, in seconds
	at      int32 // place in loop.passes
	told    bool
	// attributes are what criteria of events are compared with.
	attributes auth.Attributes
}

// newPass is nil where there is nothing to be known.
func newPass(id *auth.Identity, attributes auth.Attributes) *pass {
	p := &pass{attributes: attributes}
	switch {
	case id != nil && !id.Until.IsZero():
		lead := min(expiringBefore, time.Until(id.Until)/2)
		p.due, p.until, p.expires = id.Until.Add(-lead).UnixNano(), id.Until.UnixNano(), id.ExpiresAt.Unix()
	case attributes == auth.Attributes{}:
		return nil
	}
	return p
}

// ends tells whether there is an end to it.
func (p *pass) ends() bool { return p != nil && p.until != 0 }

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
			s.giveControl(appendControl(nil, wire.ID{}, "token-expiring", expiringEvent{
				ExpiresAt: time.Unix(p.expires, 0).UTC().Format(time.RFC3339),
			}))
		}
		heap.Fix(&l.passes, 0)
	}
}
