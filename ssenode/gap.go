package ssenode

import "sluice/shared/wire"

// gapEvent is the data of `event: gap`.
type gapEvent struct {
	Channels []string `json:"channels"`
	Patterns []string `json:"patterns"`
	Reason   string   `json:"reason"`
	From     *string  `json:"from"`
	To       *string  `json:"to"`
}

// loss is what a client is to be told with a gap event.
type loss struct {
	reason             string
	channels, patterns []string
	from               string // id, "" for the session's position
	to                 uint64 // sequence, 0 if there is none
	after              uint64 // sequence that it begins after if that is below the session's position, or 0
}

// beginsAfter notes that it begins after the sequence, or before that.
func (l *loss) beginsAfter(seq uint64) {
	if l.after == 0 || seq < l.after {
		l.after = seq
	}
}

func (l *loss) add(t *topic) {
	if t.literal {
		l.channels = append(l.channels, printable(t.name()))
	} else {
		l.patterns = append(l.patterns, t.name())
	}
}

// lossOf is a loss on all of the session's subscriptions for which f is true;
// nil if there are none.
func (s *session) lossOf(reason string, f func(*topic) bool) *loss {
	var l *loss
	for i := range s.subs {
		if t := s.subs[i].topic; f(t) {
			if l == nil {
				l = &loss{reason: reason}
			}
			l.add(t)
		}
	}
	return l
}

func anyTopic(*topic) bool { return true }

// lostAfter is the sequence after which the client has lost something: its position, or
// one before that, where a topic that was learned anew goes back to.
func (s *session) lostAfter(l *loss) uint64 {
	at := s.seq
	if s.behind {
		at = max(at, s.pos)
	}
	if l.after != 0 {
		at = min(at, l.after)
	}
	if l.to != 0 {
		at = min(at, l.to) // a mark may be told late
	}
	return at
}

// gap encodes a gap event. Its id is the position that the client goes on from,
// unless something before that is still owed.
func (s *session) gap(l *loss) (*gapEvent, []byte) {
	e := &gapEvent{Channels: l.channels, Patterns: l.patterns, Reason: l.reason}
	if e.Channels == nil {
		e.Channels = []string{}
	}
	if e.Patterns == nil {
		e.Patterns = []string{}
	}
	epoch := s.loop.epoch
	from, at := l.from, s.lostAfter(l)
	if from == "" && l.reason != gapUnknownID && at != 0 && epoch != "" {
		from = wire.ID{Epoch: epoch, Seq: at}.String()
	}
	if from != "" {
		e.From = &from
	}
	if l.to != 0 && epoch != "" {
		to := wire.ID{Epoch: epoch, Seq: l.to}.String()
		e.To = &to
	}
	id := wire.ID{Epoch: epoch}
	if s.vouched() {
		id.Seq = max(s.given, s.seq)
		s.given = id.Seq
	}
	s.loop.stats.gaps(l.reason)
	return e, appendControl(nil, id, "gap", e)
}
