package ssenode

import (
	"slices"
	"sort"
	"time"

	"sluice/shared/route"
)

// ring holds the recent frames of one topic, oldest first, so that a client
// that fell behind can go on from its position. It is not safe for concurrent
// use: the topic's lock guards it.
type ring struct {
	buf  []*frame // circular; its length is a power of two, or 0
	head int32    // of the oldest
	len  int32
	size int64 // bytes of all frames
	// evicted is the number of the newest frame no longer here: whoever has
	// seen it, or a later one, misses nothing.
	evicted uint64
	// from is the sequence after which everything of the topic is here: that of
	// the newest message that is not.
	from uint64
	// known is 0 until the topic's place in the stream was learned, and then one
	// more than the number that frames had come to: since then it has everything
	// up to the dispatcher's head, here or before from.
	known uint64
	// key is the highest sequence pushed; frames carry it, so that they can be
	// searched by sequence also where some have none.
	key uint64
	// liveGone is the number of the newest frame without a sequence that is no
	// longer here, lowGone that of the newest with one below another's before it, of
	// this topic or another.
	liveGone, lowGone uint64
}

func (r *ring) at(i int) *frame { return r.buf[(int(r.head)+i)&(len(r.buf)-1)] }

func (r *ring) push(f *frame) {
	if int(r.len) == len(r.buf) {
		grown := make([]*frame, max(4, 2*len(r.buf)))
		for i := range r.len {
			grown[i] = r.at(int(i))
		}
		r.buf, r.head = grown, 0
	}
	r.buf[int(r.head+r.len)&(len(r.buf)-1)] = f
	r.len++
	r.size += f.size()
	r.key = max(r.key, f.seq)
	f.key = r.key
}

// pop forgets the oldest frame and returns its size.
func (r *ring) pop() int64 {
	f := r.at(0)
	r.buf[r.head] = nil
	r.head = (r.head + 1) & int32(len(r.buf)-1)
	r.len--
	r.size -= f.size()
	switch {
	case f.seq == 0:
		r.liveGone = f.n
	case f.seq < r.from || f.old:
		r.lowGone = f.n
	}
	r.evicted, r.from = f.n, max(r.from, f.seq)
	if r.len == 0 {
		r.buf, r.head = nil, 0 // an idle channel keeps nothing
	}
	return f.size()
}

// after appends to dst the frames numbered above n, up to and including upTo,
// oldest first. At most max bytes of them are taken (but at least one frame);
// more tells that others follow. ok is false when some are no longer here.
func (r *ring) after(dst []*frame, n, upTo uint64, max int64) (frames []*frame, more, ok bool) {
	if n < r.evicted {
		return dst, false, false
	}
	i := sort.Search(int(r.len), func(i int) bool { return r.at(i).n > n })
	frames, more = r.take(dst, i, false, 0, upTo, max)
	return frames, more, true
}

// high is after for the frames of high channels.
func (r *ring) high(dst []*frame, n, upTo uint64, max int64) (frames []*frame, more, ok bool) {
	if n < r.evicted {
		return dst, false, false
	}
	first, size := len(dst), int64(0)
	for i := sort.Search(int(r.len), func(i int) bool { return r.at(i).n > n }); i < int(r.len) && r.at(i).n <= upTo; i++ {
		f := r.at(i)
		if f.priority != route.High {
			continue
		}
		if size += f.size(); size > max && len(dst) > first {
			return dst, true, true
		}
		dst = append(dst, f)
	}
	return dst, false, true
}

// take appends to dst the frames from the i-th on that are numbered up to upTo,
// and, of history only, have a sequence after pos, at most max bytes of them, but
// at least one; more tells that others follow.
func (r *ring) take(dst []*frame, i int, history bool, pos, upTo uint64, max int64) (frames []*frame, more bool) {
	first := len(dst)
	for size := int64(0); i < int(r.len) && r.at(i).n <= upTo; i++ {
		f := r.at(i)
		if history && f.seq <= pos {
			continue
		}
		if size += f.size(); size > max && len(dst) > first {
			return dst, true
		}
		dst = append(dst, f)
	}
	return dst, false
}

// since appends to dst the frames of history after the sequence pos, and
// numbered up to upTo, in the order of sequences, at most max bytes (but at
// least one frame); more tells that others follow. It must only be asked for
// pos >= from.
func (r *ring) since(dst []*frame, pos, upTo uint64, max int64) (frames []*frame, more bool) {
	i := sort.Search(int(r.len), func(i int) bool { return r.at(i).key > pos })
	return r.take(dst, i, true, pos, upTo, max)
}

// unordered appends to dst the frames numbered above n, up to upTo, that since does
// not find after the sequence pos: those without a sequence, or with one up to pos.
// ok is false when some are no longer here; low tells that one of the latter kind
// would be missed, too.
func (r *ring) unordered(dst []*frame, n, upTo, pos uint64, low bool) (frames []*frame, ok bool) {
	first := len(dst)
	for i := int(r.len) - 1; i >= 0 && r.at(i).n > n; i-- {
		if f := r.at(i); f.n <= upTo && f.seq <= pos {
			dst = append(dst, f)
		}
	}
	slices.Reverse(dst[first:])
	return dst, r.liveGone <= n && (!low || r.lowGone <= n)
}

// oldAfter tells whether there is, or may have been, an old frame numbered above
// n.
func (r *ring) oldAfter(n uint64) bool {
	if r.evicted > n {
		return true
	}
	for i := int(r.len) - 1; i >= 0 && r.at(i).n > n; i-- {
		if r.at(i).old {
			return true
		}
	}
	return false
}

// lastUpTo is the sequence of the newest message up to the number n, if it can be told.
func (r *ring) lastUpTo(n uint64) (seq uint64, ok bool) {
	for i := int(r.len) - 1; i >= 0; i-- {
		if f := r.at(i); f.n <= n {
			return f.seq, true
		}
	}
	return r.from, r.evicted <= n && r.known != 0
}

// resumeAt is the number after which a client that lost something goes on: with
// all that is left, or without history, where late is worthless, with the newest.
func (r *ring) resumeAt() uint64 {
	if r.len > 0 {
		if last := r.at(int(r.len) - 1); last.seq == 0 {
			return last.n - 1
		}
	}
	return r.evicted
}

func (f *frame) size() int64 { return int64(len(f.plain) + len(f.wrapped)) }

// ringLog is the order in which frames entered all rings of a node. It lets the
// dispatcher evict by age and by total size at a constant cost per frame,
// without a timer or a scan per channel.
type ringLog struct {
	entries []ringEntry
	head    int
	total   int64
}

type ringEntry struct {
	topic *topic
	n     uint64
	at    int64 // Unix nanoseconds
}

// add notes a frame just pushed and evicts what exceeds the bounds: perTopic
// bytes in its topic (the newest frame always stays), total bytes in all.
func (l *ringLog) add(t *topic, f *frame, now time.Time, perTopic, total int64) {
	t.mu.Lock()
	t.ring.push(f)
	l.total += f.size()
	for t.ring.size > perTopic && t.ring.len > 1 {
		l.total -= t.ring.pop()
	}
	t.mu.Unlock()
	l.entries = append(l.entries, ringEntry{t, f.n, now.UnixNano()})
	for l.total > total && len(l.entries)-l.head > 1 {
		l.popOldest()
	}
}

// empty evicts everything of a topic, up to the frame numbered n, and forgets
// its place in the stream.
func (l *ringLog) empty(t *topic, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lowGone := t.ring.lowGone // who has not had what goes now is known: see again
	for t.ring.len > 0 {
		l.total -= t.ring.pop()
	}
	t.ring = ring{evicted: n, liveGone: t.ring.liveGone, lowGone: lowGone}
}

// expire evicts what entered before then.
func (l *ringLog) expire(then time.Time) {
	for l.head < len(l.entries) && l.entries[l.head].at < then.UnixNano() {
		l.popOldest()
	}
}

// popOldest forgets the oldest entry and its frame, if the frame is still there.
func (l *ringLog) popOldest() {
	e := l.entries[l.head]
	l.entries[l.head] = ringEntry{}
	l.head++
	e.topic.mu.Lock()
	for e.topic.ring.len > 0 && e.topic.ring.at(0).n <= e.n {
		l.total -= e.topic.ring.pop()
	}
	e.topic.mu.Unlock()
	if l.head == len(l.entries) {
		l.entries, l.head = nil, 0
	} else if l.head > 1024 && l.head > len(l.entries)/2 {
		n := copy(l.entries, l.entries[l.head:])
		clear(l.entries[n:])
		l.entries, l.head = l.entries[:n], 0
	}
}
