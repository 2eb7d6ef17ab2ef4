package limits

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// grace is how long a connection may be without a request before it has to make
	// room for another one. Until then new ones wait in the kernel: in a storm the
	// oldest are the next to be served.
	grace = time.Second
	// filesPause is between two tries to accept when no file can be opened.
	filesPause = 20 * time.Millisecond
	// answersPerSecond is how many connections that come too often are told so; the
	// others are closed at once.
	answersPerSecond = 500
)

// Gate is a node's listener. It counts what comes through it.
type Gate struct {
	*net.TCPListener
	b         Bounds
	log       *slog.Logger
	addresses *tallies[netip.Addr] // nil: nothing is counted by address
	subjects  *tallies[string]     // nil: nothing is counted by subject
	answers   *rate.Limiter
	short     rate.Sometimes // for the log
	accepted  atomic.Uint64
	open      atomic.Int64 // streams and polls
	over      [Reasons]atomic.Uint64
	left      func()           // for a stream that only the node counts
	grace     time.Duration    // as the constant, but in tests
	now       func() time.Time // time.Now, but in tests
	done      chan struct{}
	closing   sync.Once
	room      chan struct{} // capacity 1: one that waited does so no more

	mu          sync.Mutex // guards the following fields
	first, last *Conn      // that wait for a request, since longest first
	waiting     int
	full        bool // Accept waits for room
}

// New puts bounds, which Validate has found right, on a listener.
func New(ln *net.TCPListener, b Bounds, log *slog.Logger) *Gate {
	if files, known := openFiles(); known {
		asked := b.MaxConnections
		if b.fit(files); b.MaxConnections < asked {
			log.Info("this process may not open as many files as SSENODE_MAX_CONNECTIONS allows connections",
				"files", files, "allowed", asked, "takes", b.MaxConnections)
		}
	}
	g := &Gate{
		TCPListener: ln, b: b, log: log,
		answers: rate.NewLimiter(answersPerSecond, answersPerSecond),
		short:   rate.Sometimes{Interval: 10 * time.Second},
		grace:   grace,
		now:     time.Now,
		done:    make(chan struct{}),
		room:    make(chan struct{}, 1),
	}
	g.left = func() { g.open.Add(-1) }
	if b.byAddress() {
		g.addresses = newTallies[netip.Addr](b.AttemptsPerAddress, b.CallsPerAddress)
	}
	if b.MaxPerSubject > 0 {
		g.subjects = newTallies[string](0, 0)
	}
	return g
}

// Run forgets addresses that have not been heard of for a while, until the context
// ends.
func (g *Gate) Run(ctx context.Context) {
	if g.addresses == nil {
		return
	}
	tick := time.NewTicker(tallyIdle / 2)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			g.addresses.forget(now)
		case <-ctx.Done():
			return
		}
	}
}

// Accept returns the next connection that may send a request, a *Conn.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		nc, err := g.AcceptTCP()
		switch {
		case err == nil:
		case noFiles(err):
			// Whoever has waited longest for nothing makes room.
			g.Count(Files)
			g.short.Do(func() { g.log.Warn("no more files can be opened: connections have to wait", "error", err) })
			g.makeRoom()
			if !g.pause(filesPause) {
				return nil, net.ErrClosed
			}
			continue
		default:
			return nil, err
		}
		g.accepted.Add(1)
		c := &Conn{TCPConn: nc, gate: g}
		if g.admit(c) {
			return c, nil
		}
		g.goOn(c)
		nc.Close()
	}
}

// admit tells whether a new connection may wait for its request.
func (g *Gate) admit(c *Conn) bool {
	now := g.now()
	if g.addresses != nil {
		c.peer = c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		c.direct = !g.b.TrustedProxies.Trusts(c.peer)
		if c.direct && g.b.AttemptsPerAddress > 0 && !g.addresses.attempt(keyOf(c.peer), now) {
			g.Count(Attempts)
			if c.hasty = true; !g.answers.AllowN(now, 1) {
				return false
			}
		}
	}
	for {
		wait, ok := g.wait(c, now)
		switch {
		case ok:
			return true
		case wait == 0:
			return false
		}
		if !g.pause(wait) {
			return false
		}
		now = g.now()
	}
}

// pause waits for room, at most so long. It returns false when the gate is closed.
func (g *Gate) pause(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-g.room:
	case <-timer.C:
	case <-g.done:
		return false
	}
	return true
}

// Close ends Accept; connections stay.
func (g *Gate) Close() error {
	g.closing.Do(func() { close(g.done) })
	return g.TCPListener.Close()
}

// Count counts something that was refused for being over a limit.
func (g *Gate) Count(r Reason) { g.over[r].Add(1) }

// Refused is how much was refused so far for being over a limit.
func (g *Gate) Refused(r Reason) uint64 { return g.over[r].Load() }

// Accepted is how many connections have come so far.
func (g *Gate) Accepted() uint64 { return g.accepted.Load() }

// Waiting is how many connections wait for a request now.
func (g *Gate) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// Open is how many streams and polls there are now.
func (g *Gate) Open() int { return int(g.open.Load()) }

// Most is how many streams and polls there may be.
func (g *Gate) Most() int { return g.b.MaxConnections }

// Known is of how many addresses something is counted now.
func (g *Gate) Known() int {
	if g.addresses == nil {
		return 0
	}
	return g.addresses.size()
}
