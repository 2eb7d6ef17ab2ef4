package limits

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Conn is a connection that came through a gate. Of a stream on epoll nothing is
// left of it once the engine has taken the descriptor.
//
// A nil Conn, one that came otherwise, is counted nowhere.
type Conn struct {
	*net.TCPConn
	gate   *Gate
	peer   netip.Addr // set if something is counted by address
	direct bool       // the peer is the client, not a proxy
	hasty  bool       // it came too soon after others of its address

	// Guarded by gate.mu.
	prev, next *Conn
	since      time.Time
	listed     bool               // waits for a request
	at         *tally[netip.Addr] // counted there as waiting

	mu     sync.Mutex // guards the following fields: the server may close it meanwhile
	holds  holding
	closed bool
}

// holding is what a stream or poll is counted in.
type holding struct {
	node    bool
	address *tally[netip.Addr]
	subject *tally[string]
}

func (h holding) release(g *Gate) {
	h.address.leave()
	h.subject.leave()
	if h.node {
		g.open.Add(-1)
	}
}

// Of returns the Conn that a server's connection is, or has below its TLS; nil if
// there is none.
func Of(c net.Conn) *Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	own, _ := c.(*Conn)
	return own
}

// Arrived notes that a request has been read.
func (c *Conn) Arrived() {
	if c != nil {
		c.gate.goOn(c)
	}
}

// Wait notes that the connection's request was answered and that it waits for another
// one, unless too many do: then it is closed.
func (c *Conn) Wait() {
	if c == nil {
		return
	}
	c.Leave()
	if wait, ok := c.gate.wait(c, c.gate.now()); !ok {
		if wait > 0 {
			c.gate.Count(Pending)
		}
		c.TCPConn.Close()
	}
}

// Close closes the connection; what it was counted in has room again.
func (c *Conn) Close() error {
	c.gate.goOn(c)
	c.mu.Lock()
	h := c.holds
	c.holds, c.closed = holding{}, true
	c.mu.Unlock()
	h.release(c.gate)
	return c.TCPConn.Close()
}

// client is what counts as the request's address.
func (c *Conn) client(h Header) netip.Addr {
	if c.direct {
		return keyOf(c.peer)
	}
	return keyOf(c.gate.b.TrustedProxies.Client(c.peer, h))
}

// Enter counts a request for a stream or a poll until Leave, HandOver or Close.
// first tells whether it is the connection's first request. Errors are *Over.
func (c *Conn) Enter(h Header, first bool) error {
	if c == nil {
		return nil
	}
	g := c.gate
	var in holding
	if c.hasty {
		c.hasty = false        // further requests count by themselves
		return &Over{Attempts} // counted when it came
	}
	if g.addresses != nil {
		now, client := g.now(), c.client(h)
		if again := !c.direct || !first; again && g.b.AttemptsPerAddress > 0 && !g.addresses.attempt(client, now) {
			return g.refuse(Attempts)
		}
		if g.b.MaxPerAddress > 0 {
			if in.address = g.addresses.enter(client, g.b.MaxPerAddress, now); in.address == nil {
				return g.refuse(Address)
			}
		}
	}
	in.node = true
	if g.open.Add(1) > int64(g.b.MaxConnections) {
		in.release(g)
		return g.refuse(Node)
	}
	c.hold(in)
	return nil
}

// EnterAs is Enter for the subject of the request's token, once it is known.
func (c *Conn) EnterAs(subject string) error {
	if c == nil || c.gate.subjects == nil || subject == "" {
		return nil
	}
	in := c.gate.subjects.enter(subject, c.gate.b.MaxPerSubject, c.gate.now())
	if in == nil {
		return c.gate.refuse(Subject)
	}
	c.hold(holding{subject: in})
	return nil
}

// hold adds to what the connection is counted in.
func (c *Conn) hold(in holding) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.holds.node = c.holds.node || in.node
		if in.address != nil {
			c.holds.address = in.address
		}
		if in.subject != nil {
			c.holds.subject = in.subject
		}
	}
	c.mu.Unlock()
	if closed {
		in.release(c.gate)
	}
}

func (c *Conn) take() holding {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.holds
	c.holds = holding{}
	return h
}

// Leave is the end of the request: it is counted no longer.
func (c *Conn) Leave() {
	if c != nil {
		c.take().release(c.gate)
	}
}

// HandOver gives away what the connection is counted in: it is so until the function
// returned is called, once, and not only until Close. nil if there is nothing to be
// called.
func (c *Conn) HandOver() func() {
	if c == nil {
		return nil
	}
	h, g := c.take(), c.gate
	switch {
	case h == holding{}:
		return nil
	case h.address == nil && h.subject == nil:
		return g.left // the same for all: nothing to be kept for each
	}
	return func() { h.release(g) }
}

// Call counts a request other than for a stream. Errors are *Over.
func (c *Conn) Call(h Header) error {
	if c == nil || c.gate.b.CallsPerAddress == 0 || c.gate.addresses.call(c.client(h), c.gate.now()) {
		return nil
	}
	return c.gate.refuse(Calls)
}

func (g *Gate) refuse(r Reason) error {
	g.Count(r)
	return &Over{r}
}
