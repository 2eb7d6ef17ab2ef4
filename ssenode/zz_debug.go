package ssenode

import "fmt"

// DebugDump is temporary.
func (n *Node) DebugDump() (out []string) {
	for _, l := range n.loops {
		done := make(chan struct{})
		l.ask(func() {
			defer close(done)
			for _, list := range l.sessions.lists {
				for _, s := range list {
					line := fmt.Sprintf("loop n=%d seq=%d verified=%d | %s behind=%v unsettled=%v early=%v until=%d replaying=%v waiting=%v rest=%d cursor=%d seq=%d pos=%d back=%d first=%d whole=%d given=%d start=%v", l.n, l.seq, l.verified, s.clientID, s.behind, s.unsettled, s.early, s.until, s.replaying, s.waiting, len(s.rest), s.cursor, s.seq, s.pos, s.back, s.first, s.whole, s.given, s.start)
					for i := range s.subs {
						t := s.subs[i].topic
						t.mu.Lock()
						line += fmt.Sprintf(" [%s at=%d replayed=%d from=%d known=%d evicted=%d len=%d fetching=%v waiting=%d settled=%d holding=%v", t.name, s.subs[i].at, s.subs[i].replayed, t.ring.from, t.ring.known, t.ring.evicted, t.ring.len, t.past.fetching, len(t.past.waiting), t.settled.Load(), t.past.holding(s.subs[i].at) != nil)
						line += "]"
						t.mu.Unlock()
					}
					out = append(out, line)
				}
			}
		})
		<-done
	}
	n.fetcher.mu.Lock()
	out = append(out, fmt.Sprintf("NODE %s jobs %d asked %d head %d hub.n %d inbox %d checks %d relearned %d", n.Addr(), len(n.fetcher.jobs), n.history.asked.Load(), n.dispatch.head.Load(), n.hub.n, len(n.hub.inbox), n.stats.checks.Load(), n.stats.relearned.Load()))
	n.fetcher.mu.Unlock()
	n.dispatch.learner.mu.Lock()
	out = append(out, fmt.Sprintf("learner list %d", len(n.dispatch.learner.list)))
	n.dispatch.learner.mu.Unlock()
	return out
}
