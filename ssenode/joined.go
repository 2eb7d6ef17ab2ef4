package ssenode

// share is a topic's part of a batch.
type share struct {
	pending []*frame
	single  bool          // each client is looked at: some are old, or only for some
	joined  [forms]joined // their bytes
}

// joined is the frames of one topic that wait in a batch, put one behind the
// other for a single write that all the topic's clients share. It is made when
// the first client needs it.
type joined struct {
	parts []part
	made  bool
}

// forms is in how many ways the same frames are written: plain or for wrap=1,
// with or without ids.
const forms = 4

func (s *session) form() (i int) {
	if s.wrap {
		i = 1
	}
	if !s.vouched() {
		i += 2
	}
	return i
}

// part is at most about a chunk of bytes, and the frames it is made of.
type part struct {
	buf    []byte
	frames []*frame
}

// chunkOf tells how many of the frames fit in one chunk; at least one.
func chunkOf(frames []*frame, wrap bool) int {
	size := 0
	for i, f := range frames {
		if wrap {
			size += len(f.wrapped)
		} else {
			size += len(f.plain)
		}
		if size > chunk && i > 0 {
			return i
		}
	}
	return len(frames)
}

// give writes the topic's pending frames to one current session.
func (lt *localTopic) give(s *session) {
	j := &lt.share.joined[s.form()]
	if !j.made {
		j.make(lt.share.pending, s)
	}
	for _, p := range j.parts {
		s.give(p.buf, p.frames)
		if s.behind {
			return // its position tells where it goes on
		}
	}
}

func (j *joined) make(frames []*frame, s *session) {
	j.made = true
	for len(frames) > 0 {
		k := chunkOf(frames, s.wrap)
		p := part{frames: frames[:k]}
		if k == 1 {
			p.buf = s.bytesOf(frames[0])
		} else {
			size := 0
			for _, f := range p.frames {
				size += len(s.bytesOf(f))
			}
			p.buf = make([]byte, 0, size)
			for _, f := range p.frames {
				p.buf = append(p.buf, s.bytesOf(f)...)
			}
		}
		j.parts = append(j.parts, p)
		frames = frames[k:]
	}
}

// done ends the batch.
func (lt *localTopic) done(l *loop) {
	b := lt.share
	lt.share = nil
	clear(b.pending)
	if b.pending = b.pending[:0]; cap(b.pending) > 256 {
		b.pending = nil
	}
	b.single = false
	for i := range b.joined {
		b.joined[i].reset()
	}
	if len(l.spareShares) < batchSize {
		l.spareShares = append(l.spareShares, b)
	}
}

// takeShare lends what only topics with events in the batch need.
func (l *loop) takeShare() *share {
	if n := len(l.spareShares); n > 0 {
		b := l.spareShares[n-1]
		l.spareShares = l.spareShares[:n-1]
		return b
	}
	return &share{}
}

func (j *joined) reset() {
	clear(j.parts)
	j.parts, j.made = j.parts[:0], false
}
