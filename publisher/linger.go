package publisher

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A connection whose request was not read to its end is closed in two steps, else
// the kernel would reset it, and the client might never see the answer: no more is
// written, and what still comes is thrown away, within these bounds.
const (
	lingerLimit = time.Second
	lingerBytes = 64 << 20
)

// lingerListener accepts connections that can linger.
type lingerListener struct{ net.Listener }

func (l lingerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lingerConn{Conn: c}, nil
}

type lingerConn struct {
	net.Conn
	unread atomic.Bool // close in two steps
}

// Close takes lingerLimit at most.
func (c *lingerConn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Load() && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerLimit))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
	return c.Conn.Close()
}
