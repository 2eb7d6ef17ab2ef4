package ssenode

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/channel"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

const (
	// pollTime and pollMax are how long a poll waits when it does not say, and
	// at most.
	pollTime = 25 * time.Second
	pollMax  = 55 * time.Second
	// pollBytes bounds the events of one answer; the next poll goes on.
	pollBytes = 1 << 20
)

// pollAnswer is the body of an answer to GET /poll.
type pollAnswer struct {
	Events      []pollEvent `json:"events"`
	LastEventID string      `json:"lastEventId"`
	Gap         *gapEvent   `json:"gap"`
}

type pollEvent struct {
	ID      *string `json:"id"`
	Channel string  `json:"channel"`
	Event   *string `json:"event"`
	Data    string  `json:"data"`
}

// collector is the client's side of a session that answers a poll: it takes
// frames instead of bytes. All but the answer is owned by the loop.
type collector struct {
	answer  pollAnswer // to be read once done
	size    int
	at      uint64 // highest sequence taken
	until   uint64 // the answer goes on up to there, however long it is: see session.resume
	atOnce  bool   // also without an event
	revoked bool   // the answer is not to be given: its token does not count any more
	once    sync.Once
	done    chan struct{}
}

func newCollector(atOnce bool) *collector {
	return &collector{answer: pollAnswer{Events: []pollEvent{}}, atOnce: atOnce, done: make(chan struct{})}
}

// Write takes what is for streams only.
func (c *collector) Write(p []byte) (int, error) { return len(p), nil }

// Close ends the poll.
func (c *collector) Close() { c.once.Do(func() { close(c.done) }) }

// full tells whether the answer has no room for more.
func (c *collector) full() bool { return c.size > pollBytes && c.at >= c.until }

// take adds frames to the answer; it returns how many it had room for, at least
// one.
func (c *collector) take(frames []*frame, s *session) int {
	for i, f := range frames {
		if c.full() {
			return i
		}
		c.at = max(c.at, f.seq)
		e, err := f.polled(s.loop.epoch, s.vouches(f))
		if err != nil {
			continue
		}
		c.size += len(e.Data)
		c.answer.Events = append(c.answer.Events, e)
	}
	return len(frames)
}

func (f *frame) polled(epoch string, vouched bool) (pollEvent, error) {
	ev := f.event()
	name, err := channel.FromSubject(f.subject)
	e := pollEvent{Channel: printable(name), Data: string(ev.Data)}
	if ev.Name != "" {
		e.Event = &ev.Name
	}
	if ev.Binary {
		binary := "binary"
		e.Event = &binary
	}
	if f.idLen > 0 && vouched && epoch != "" {
		id := wire.ID{Epoch: epoch, Seq: f.seq}.String()
		e.ID = &id
	}
	return e, err
}

// polled answers the session's poll if there is something to answer with.
func (s *session) polled() {
	c := s.poll()
	if c == nil || s.closed || s.waiting || s.behind && s.start != nil {
		return
	}
	if c.full() || !s.behind && !s.unsettled && (c.atOnce || len(c.answer.Events) > 0 || c.answer.Gap != nil) {
		s.endPoll()
	}
}

// endPoll answers the poll with what there is.
func (s *session) endPoll() {
	if s.closed {
		return
	}
	l := s.loop
	if s.behind && s.cursor < l.restarted.n {
		s.afterRestart()
	}
	at := s.given
	if !s.behind && s.vouched() {
		at = max(at, l.verified)
	}
	switch {
	case s.behind && s.start != nil && s.start.id != "": // not begun: the next one will
		s.poll().answer.LastEventID = s.start.id
	case l.epoch != "":
		s.poll().answer.LastEventID = wire.ID{Epoch: l.epoch, Seq: max(at, s.first)}.String()
	}
	l.drop(s, clientGone, nil)
}

// servePoll answers GET /poll.
func (n *Node) servePoll(ctx *fasthttp.RequestCtx, r *request) {
	if n.draining.Load() {
		ctx.Response.Header.Set("Retry-After", "1")
		n.answer(ctx, http.StatusServiceUnavailable, problem{Error: "this node is going away"})
		return
	}
	c := newCollector(r.lastEventID == "")
	s, wait, err := n.join(r, c)
	if err != nil {
		n.refuse(ctx, err)
		return
	}
	n.await(wait, time.Now().Add(flushLimit))
	if n.prepare(r, s) {
		n.resolve(s)
	}
	n.stats.polls.Add(1)
	if !s.loop.adopt(s) {
		n.hub.leave(s)
		ctx.Response.Header.Set("Retry-After", "1")
		n.answer(ctx, http.StatusServiceUnavailable, problem{Error: "this node is going away"})
		return
	}
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		s.loop.ask(s.endPoll)
		select {
		case <-c.done:
		case <-n.done:
		}
	case <-n.done:
	}
	select {
	case <-c.done:
		if c.revoked {
			n.refuse(ctx, &auth.Unauthorized{Code: auth.Revoked})
			return
		}
		n.answer(ctx, http.StatusOK, c.answer)
	default: // the node has ended; the answer may still be written to
		ctx.Response.Header.Set("Retry-After", "1")
		n.answer(ctx, http.StatusServiceUnavailable, problem{Error: "this node is going away"})
	}
}

// pollTimeout reads the timeout parameter, in seconds.
func pollTimeout(value string) (time.Duration, error) {
	seconds, err := strconv.Atoi(value)
	if err != nil || seconds < 0 || time.Duration(seconds)*time.Second > pollMax {
		return 0, bad("timeout=%q: want seconds, 0 to %d", clip(value), int(pollMax/time.Second))
	}
	return time.Duration(seconds) * time.Second, nil
}
