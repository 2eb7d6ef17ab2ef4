package ssenode

// past is what was fetched of a topic's history a moment ago. The topic's lock
// guards it.
type past struct {
	stretches []*stretch
	fetching  bool
	waiting   []*session
	tail      *tail
}

// forget lets go of all that is there.
func (p *past) forget() { p.stretches, p.tail = nil, nil }

// holding returns the stretch in which a client at the position goes on.
func (p *past) holding(pos uint64) *stretch {
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
	for _, s := range p.stretches {
		if s.after > pos {
			to = min(to, s.after)
		}
	}
	return to
}
