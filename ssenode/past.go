package ssenode

import "slices"

// past is what was fetched of a topic's history a moment ago. The topic's lock
// guards it.
type past struct {
	stretches []*stretch
	fetching  bool
	waiting   []*session
	tail      *tail
}

// asked is the topic's past for who is going to fetch or to wait. The caller holds
// the topic's lock.
func (t *topic) asked() *past {
	if t.past == nil {
		t.past = &past{}
	}
	return t.past
}

// await lets the session wait until more is known of the topic, or there. The
// caller holds the topic's lock.
func (t *topic) await(s *session) {
	p := t.asked()
	p.waiting = append(p.waiting, s)
	s.waiting = true
}

// takeWaiting returns who waited for the topic's place in the stream, to be woken.
// The caller holds the topic's lock.
func (t *topic) takeWaiting() []*session {
	p := t.past
	if p == nil {
		return nil
	}
	waiting := p.waiting
	if !p.fetching { // else they will look once more
		p.waiting = nil
	}
	t.tidy()
	return waiting
}

// tidy lets go of a past with nothing in it. The caller holds the topic's lock.
func (t *topic) tidy() {
	if p := t.past; p != nil && !p.fetching && len(p.waiting) == 0 && len(p.stretches) == 0 && p.tail == nil {
		t.past = nil
	}
}

// last is the last events that were fetched, nil if none were.
func (p *past) last() *tail {
	if p == nil {
		return nil
	}
	return p.tail
}

// forget lets go of all that was fetched. The caller holds the topic's lock.
func (t *topic) forget() {
	if p := t.past; p != nil {
		p.stretches, p.tail = nil, nil
		t.tidy()
	}
}

// remove lets go of a stretch. The caller holds the topic's lock.
func (t *topic) remove(gone *stretch) {
	if p := t.past; p != nil {
		p.stretches = slices.DeleteFunc(p.stretches, func(s *stretch) bool { return s == gone })
		t.tidy()
	}
}

// holding returns the stretch in which a client at the position goes on.
func (p *past) holding(pos uint64) *stretch {
	if p == nil {
		return nil
	}
	for _, s := range p.stretches {
		if s.after <= pos && pos < s.through {
			return s
		}
	}
	return nil
}

// until tells how far a stretch that begins at the position is of use: to where
// another one begins, else to the sequence given. So stretches join, and clients
// that were at different positions soon share them.
func (p *past) until(pos, to uint64) uint64 {
	if p == nil {
		return to
	}
	for _, s := range p.stretches {
		if s.after > pos {
			to = min(to, s.after)
		}
	}
	return to
}
