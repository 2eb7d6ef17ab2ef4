package bridge

import "time"

// doubtFor is for how long a stream must seem to have lost something before it is
// believed.
const doubtFor = time.Second

// known is what this bridge has seen of the stream. A stream that has less has lost
// something.
type known struct {
	term  uint64
	epoch string
	seq   uint64
}

// decide tells from the end of the stream whether this bridge may write a
// barrier, and of which term and epoch.
func (l *leader) decide(e end) (term uint64, epoch string, ok bool) {
	newest := max(e.stamp.Term, e.pulse.Term)
	lost := l.learn(e)
	if l.term != 0 {
		other := e.pulse.Bridge != "" && e.pulse.Bridge != l.name
		switch {
		case other && (e.pulse.Term >= l.term || e.pulse.Epoch != l.epoch) || !other && newest > l.term && e.pulse.Term < newest:
			l.resign(e)
			l.standBy(e)
		case l.fenced(e):
			return 0, "", false
		case newest > l.term:
			// A barrier of ours was stored and its acknowledgement lost.
			l.begin(newest, e.pulse.Epoch, e.stamp.Number)
			l.settle(e)
			return l.term, l.epoch, true
		case e.seq >= l.acked && e.stamp.Term == l.term:
			l.settle(e)
			l.doubt = time.Time{}
			return l.term, l.epoch, true
		case l.doubted():
			return 0, "", false
		default:
			l.log.Error("the stream has lost what it had acknowledged, or began anew: new epoch", "acknowledged", l.acked, "end", e.seq)
			return l.known.term + 1, newEpoch(), true
		}
	}
	if !l.mayLead(e) || lost && l.doubted() {
		return 0, "", false
	}
	epoch = e.pulse.Epoch
	if lost {
		l.log.Error("the stream has lost its end, or began anew: new epoch", "seen", l.known.seq, "end", e.seq)
	}
	if lost || epoch == "" {
		epoch = newEpoch()
	}
	return l.known.term + 1, epoch, true
}

// doubted tells that a loss was seen so lately that it may not be one: a stream leader
// that has just been elected can answer before it knows of all that was stored.
func (l *leader) doubted() bool {
	if l.doubt.IsZero() || time.Since(l.doubt) > 2*doubtFor {
		l.doubt = time.Now()
	}
	return time.Since(l.doubt) < doubtFor
}

// learn takes what the end of the stream tells, and returns whether it has lost
// something that was there.
func (l *leader) learn(e end) (lost bool) {
	k := &l.known
	k.term = max(k.term, l.term, e.stamp.Term, e.pulse.Term)
	switch {
	case e.pulse.Epoch == "":
		return k.epoch != ""
	case e.pulse.Epoch != k.epoch:
		k.epoch, k.seq = e.pulse.Epoch, e.seq
	case e.seq < k.seq:
		return true
	}
	k.seq = e.seq
	return false
}
