package ssenode

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/wire"
)

// sprintf is fmt.Sprintf under a name that vet does not take for a wrapper.
var sprintf = fmt.Sprintf

// streamHead is the answer to every stream. The body ends with the connection,
// so all clients get the same bytes: no chunk sizes between them.
const streamHead = "HTTP/1.1 200 OK\r\n" +
	"Content-Type: text/event-stream; charset=utf-8\r\n" +
	"Cache-Control: no-cache\r\n" +
	"X-Accel-Buffering: no\r\n" + // nginx would hold events back otherwise
	"Access-Control-Allow-Origin: *\r\n" +
	"Connection: close\r\n\r\n"

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
		cors(&ctx.Response.Header)
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

// stream writes the head and gives the connection to a loop. An error means
// that the connection is still the caller's.
func (n *Node) stream(c net.Conn, r *request) error {
	l := n.loops[n.next.Add(1)%uint64(len(n.loops))]
	s := &session{loop: l, clientID: r.clientID, wrap: r.wrap, overlap: overlaps(r.want)}
	s.subs = make([]sub, 0, len(r.want))
	joined, wait, err := n.hub.join(r.want, s)
	if err != nil {
		return err
	}
	s.cursor = joined
	// The head goes at once, with the rest of the greeting when nothing has to
	// be waited for: a page shows "connected" by it.
	greeting := appendRetry([]byte(streamHead), n.cfg.SSENode.Retry)
	if len(wait) > 0 {
		if err := writeNow(c, greeting); err != nil {
			n.hub.leave(s)
			return err
		}
		greeting = nil
		for _, confirmed := range wait {
			select {
			case <-confirmed:
			case <-n.done:
			}
		}
	}
	s.rest = appendControl(greeting, wire.ID{}, "connected", connectedEvent{
		ClientID: r.clientID, Channels: printables(r.channels), Patterns: printables(r.patterns),
		Node: n.cfg.SSENode.Name, Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"),
	})
	if s.sock, err = n.engine.Take(c, n.cfg.SSENode.StuckAfter); err != nil {
		n.hub.leave(s)
		return err
	}
	n.stats.connects.Add(1)
	if !l.adopt(s) {
		s.sock.Close()
		n.hub.leave(s)
		n.stats.closed(shutdown)
	}
	return nil
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
