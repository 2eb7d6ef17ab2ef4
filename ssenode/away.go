package ssenode

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/ssenode/limits"
)

const (
	// awayTime bounds how long a client that was sent away is waited for, until it
	// closes its end.
	awayTime = time.Second
	// awayMost bounds how many are waited for at once; others are closed at once.
	awayMost = 1000
	// awayRead bounds what is read of one, in bytes.
	awayRead = 64 << 10
)

// sendAway tells a client to come back later: an EventSource with 200 and `retry:`,
// since it would never do so after any other status; a poll or an API's client with
// 429, or 503 when that is the node's fault, and Retry-After.
func (n *Node) sendAway(ctx *fasthttp.RequestCtx, api bool, why error) {
	n.stats.refused.Add(1)
	var over *limits.Over
	if api {
		status, wait := http.StatusServiceUnavailable, time.Second
		if errors.As(why, &over) {
			wait = n.awayFor()
			if over.Reason != limits.Node {
				status = http.StatusTooManyRequests
			}
		}
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		n.answer(ctx, status, problem{Error: why.Error()})
		return
	}
	var body []byte
	if errors.As(why, &over) {
		body = appendWait(nil, n.awayFor())
	} else {
		body = appendRetry(nil, n.cfg.SSENode.Retry)
	}
	b := append(awayHead(n.cors(ctx).lines(), len(body)), body...)
	if ctx.IsHead() {
		b = b[:len(b)-len(body)]
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) { n.sayGoodbye(c, b) })
}

// awayFor is how long who is over a limit is told to wait: any time between a half
// and one and a half of the setting, so that those sent away together do not come
// back together.
func (n *Node) awayFor() time.Duration {
	wait := n.cfg.SSENode.AwayRetry
	return wait/2 + rand.N(wait+1)
}

func awayHead(cors string, length int) []byte {
	return []byte("HTTP/1.1 200 OK\r\n" +
		"Content-Type: text/event-stream; charset=utf-8\r\n" +
		"Cache-Control: no-cache\r\n" +
		cors +
		"Content-Length: " + strconv.Itoa(length) + "\r\n" +
		"Connection: close\r\n\r\n")
}

// sayGoodbye sends an answer and ends the connection in a way that the answer
// arrives: a close while the client's bytes are unread would be a reset, which can
// overtake it. So only our half is closed, and the client's is read for a while.
func (n *Node) sayGoodbye(c net.Conn, answer []byte) {
	if h, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		c = h.UnsafeConn()
	}
	defer c.Close()
	defer n.away.Add(-1)
	many := n.away.Add(1) > awayMost
	// The answer is small, but pipelined ones may stand before it.
	if err := c.SetDeadline(time.Now().Add(awayTime)); err != nil {
		return
	}
	if _, err := c.Write(answer); err != nil || many {
		return
	}
	if h, ok := c.(interface{ CloseWrite() error }); ok && h.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, awayRead))
}
