package ssenode

// turns holds a loop's sessions by the tick in which their heartbeat is due.
// A session stays where it is while others come and go, so the time between
// two of its heartbeats never grows.
type turns struct {
	lists [][]*session
	next  int // list of the next session
	n     int // sessions in all
}

// newTurns makes room for so many ticks between two heartbeats.
func newTurns(ticks int) turns { return turns{lists: make([][]*session, max(1, ticks))} }

func (t *turns) add(s *session) {
	list := &t.lists[t.next]
	s.turn, s.at = int32(t.next), int32(len(*list))
	*list = append(*list, s)
	t.next = (t.next + 1) % len(t.lists)
	t.n++
}

func (t *turns) remove(s *session) {
	list := t.lists[s.turn]
	last := len(list) - 1
	list[s.at] = list[last]
	list[s.at].at = s.at
	list[last] = nil
	t.lists[s.turn] = list[:last]
	t.n--
}

// due is the list whose turn it is in a tick.
func (t *turns) due(tick int) []*session { return t.lists[tick%len(t.lists)] }
