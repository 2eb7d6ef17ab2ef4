package ssenode

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/wire"
	"sluice/ssenode/limits"
)

// sprintf is fmt.Sprintf under a name that vet does not take for a wrapper.
var sprintf = fmt.Sprintf

// streamHead is the answer to every stream, with the lines for pages of other
// origins. The body ends with the connection, so all clients get the same bytes:
// no chunk sizes between them.
func streamHead(cors string) []byte {
	return []byte("HTTP/1.1 200 OK\r\n" +
		"Content-Type: text/event-stream; charset=utf-8\r\n" +
		"Cache-Control: no-cache\r\n" +
		"X-Accel-Buffering: no\r\n" + // nginx would hold events back otherwise
		cors +
		"Connection: close\r\n\r\n")
}

// kernelPatience is how much longer than the node the kernel waits for a client
// that takes nothing, so that it is the node that closes and counts it.
const kernelPatience = 5 * time.Second

// timestamps is how times are written on a stream.
const timestamps = "2006-01-02T15:04:05.000Z07:00"

// connectedEvent is the data of the first event on a stream, and of no other.
type connectedEvent struct {
	ClientID  string   `json:"clientId"`
	Channels  []string `json:"channels"`
	Patterns  []string `json:"patterns"`
	Node      string   `json:"node"`
	Timestamp string   `json:"timestamp"`
}

// open turns the request's connection into a stream.
func (n *Node) open(ctx *fasthttp.RequestCtx, r *request) {
	if ctx.IsHead() {
		ctx.Response.Header.Set("Content-Type", "text/event-stream; charset=utf-8")
		ctx.Response.Header.Set("Cache-Control", "no-cache")
		n.cors(ctx).set(&ctx.Response.Header)
		ctx.SetStatusCode(http.StatusOK)
		return
	}
	// Without this fasthttp would skip the hijack for a client that says
	// `Connection: close`, as every HTTP/1.0 proxy does.
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		if h, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
			c = h.UnsafeConn()
		}
		if err := n.stream(c, r); err != nil {
			n.log.Debug("stream not opened", "clientId", r.clientID, "error", err)
			if n.engine.KeepsConn() {
				c.Close()
			}
		}
	})
}

// join makes a session that is a client of its topics. The channels returned are closed
// when these are ready and the stream is known; usually there are none.
func (n *Node) join(r *request, poll *collector) (s *session, wait []chan struct{}, err error) {
	l := n.loops[n.next.Add(1)%uint64(len(n.loops))]
	s = &session{loop: l, clientID: r.clientID, wrap: r.wrap, overlap: overlaps(r.want), pass: n.newPass(r.identity, r.attributes), lag: &lag{}}
	if poll != nil {
		s.sock = poll
	}
	s.subs = make([]sub, 0, len(r.want))
	// Read before it joins: everything that is given out to it is later.
	s.first = n.dispatch.head.Load()
	if s.cursor, wait, err = n.hub.join(r.want, s); err != nil {
		return nil, nil, err
	}
	s.subs[0].born = l.bornNow()
	if !n.dispatch.started.Load() {
		wait = append(wait, n.dispatch.found)
	}
	// The stream may have begun anew between the two.
	s.first = min(s.first, n.dispatch.head.Load())
	s.seq, s.whole = s.first, s.first
	for i := range s.subs {
		t := s.subs[i].topic
		s.owing, s.ranked = s.owing || t.throttles, s.ranked || t.ranks != 0
	}
	return s, wait, nil
}

// await waits until all is ready. It returns false when that is not so by the limit;
// there is nothing to wait for when the node ends.
func (n *Node) await(wait []chan struct{}, limit time.Time) bool {
	var timer *time.Timer
	for _, ready := range wait {
		select {
		case <-ready:
			continue
		default:
		}
		if timer == nil {
			timer = time.NewTimer(time.Until(limit))
			defer timer.Stop()
		}
		select {
		case <-ready:
		case <-timer.C:
			return false
		case <-n.done:
			return true
		}
	}
	return true
}

// ready tells whether the place of all topics in the stream is known.
func ready(s *session) bool {
	for i := range s.subs {
		t := s.subs[i].topic
		t.mu.Lock()
		known := t.ring.known != 0
		t.mu.Unlock()
		if !known && !(t.literal && t.live) {
			return false
		}
	}
	return true
}

// prepare notes how the session begins. It returns true if its id is beyond what the
// node knows of the stream: resolve is to ask the stream then.
func (n *Node) prepare(r *request, s *session) (ahead bool) {
	st := &start{id: r.lastEventID}
	for i := range s.subs {
		t := s.subs[i].topic
		count := max(r.initial, 0)
		if r.initial < 0 && t.literal {
			count = t.route.Initial
		}
		if !t.literal {
			count = min(count, 1) // of each channel
		} else {
			count = min(count, t.route.History.Count)
		}
		if count > 0 {
			if st.initial == nil {
				st.initial = make([]int, len(s.subs))
			}
			st.initial[i] = count
		}
	}
	if st.id == "" {
		if st.late = !ready(s); st.initial != nil || st.late {
			s.start = st
		}
		return false
	}
	s.start = st
	var err error
	if st.from, err = wire.ParseID(st.id); err != nil {
		st.unknown = true
		return false
	}
	if st.from.Epoch == n.dispatch.epochNow() {
		if ahead = st.from.Seq > n.dispatch.head.Load(); !ahead {
			s.first = st.from.Seq // where it is, whatever the node knew when it came
		}
	}
	return ahead
}

// resolve asks the stream whether it reaches to the session's id, and waits for the
// answer.
func (n *Node) resolve(s *session) {
	st := s.start
	if st.unknown = !n.tip.reaches(st.from.Seq, n.done); !st.unknown {
		s.first = st.from.Seq
	}
}

// isAhead tells whether prepare would tell so by now, or nearly.
func (n *Node) isAhead(r *request) bool {
	if r.lastEventID == "" {
		return false
	}
	id, err := wire.ParseID(r.lastEventID)
	return err == nil && id.Seq > n.dispatch.head.Load()
}

// stream writes the head and gives the connection to a loop. An error means
// that the connection is still the caller's.
func (n *Node) stream(c net.Conn, r *request) error {
	s, wait, err := n.join(r, nil)
	if err != nil {
		return err
	}
	// The head goes at once, with the rest of the greeting when nothing has to
	// be waited for: a page shows "connected" by it.
	greeting := appendRetry(streamHead(r.cors), n.cfg.SSENode.Retry)
	if len(wait) > 0 || n.isAhead(r) {
		if err := writeNow(c, greeting); err != nil {
			n.hub.leave(s)
			return err
		}
		n.stats.out(0, len(greeting))
		greeting = nil
	}
	gone := limits.Of(c).HandOver()
	if own, ok := c.(*limits.Conn); ok {
		c = own.TCPConn // the rest is for requests
	}
	if s.sock, err = n.engine.Take(c, n.cfg.SSENode.StuckAfter+kernelPatience, gone); err != nil {
		if gone != nil {
			gone()
		}
		n.hub.leave(s)
		return err
	}
	n.stats.connects.Add(1)
	// The request's buffers are not kept while it waits.
	if len(wait) == 0 || !n.usher.seat(s, r, wait) {
		n.adopt(s, r, greeting)
	}
	return nil
}

// adopt gives a stream to its loop, with the rest of its greeting. It never waits.
func (n *Node) adopt(s *session, r *request, greeting []byte) {
	if n.prepare(r, s) {
		go func() {
			n.resolve(s)
			n.handOver(s, r, greeting)
		}()
		return
	}
	n.handOver(s, r, greeting)
}

func (n *Node) handOver(s *session, r *request, greeting []byte) {
	s.rest = appendControl(greeting, wire.ID{}, "connected", connectedEvent{
		ClientID: r.clientID, Channels: printables(r.channels), Patterns: printables(r.patterns),
		Node: n.cfg.SSENode.Name, Timestamp: time.Now().UTC().Format(timestamps),
	})
	if !s.loop.adopt(s) {
		s.sock.Close()
		n.hub.leave(s)
		n.stats.closed(shutdown)
	}
}

func writeNow(c net.Conn, b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(flushLimit)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

func printables(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = printable(name)
	}
	return list
}
