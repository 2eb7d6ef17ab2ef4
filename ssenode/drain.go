package ssenode

import "math"

// drain closes as many sessions as are due by now, each told to come back after
// a time of its own: the share of the time that is left is the share that stays. Who is
// behind cannot be told before it has caught up, and so goes last.
func (l *loop) drain(from, to, now int64) {
	l.drainTotal = max(l.drainTotal, l.sessions.n)
	left := 0
	if from < to && now < to {
		left = int(math.Ceil(float64(l.drainTotal) * float64(to-now) / float64(to-from)))
	}
	excess := l.sessions.n - left
	for _, behind := range [...]bool{false, true} {
		for _, list := range l.sessions.lists {
			for _, s := range list {
				if excess <= 0 {
					return
				}
				if !s.closed && s.behind == behind && l.dismiss(s) {
					excess--
				}
			}
		}
	}
}

// dismiss closes a session of a node that ends. It returns false when the session is not
// closed, because its socket has not taken all of its last words: it is behind then.
func (l *loop) dismiss(s *session) bool {
	if s.poll() != nil {
		s.endPoll()
		return true
	}
	if !s.behind {
		if s.farewell(); s.behind && !s.closed {
			return false
		}
	}
	l.drop(s, drained, nil)
	return true
}

// farewell is the last that a session is told: when to come back, each after a time of
// its own, and the newest position.
func (s *session) farewell() {
	b := appendRetry(nil, s.loop.retry)
	if s.advances() {
		b = s.position(b)
	}
	s.giveControl(b)
}
