// Package engine owns the sockets of a node's clients. It knows nothing of
// events: it writes bytes without ever blocking, tells when a full socket can
// take more and when a client has gone, and costs next to nothing for a client
// that is idle.
//
// An engine has a few loops, each one goroutine that alone reads, writes and
// closes its sockets, so nothing about a socket needs a lock:
//
//	accept goroutine ── Take(conn) ──> Socket ──(handed over by the user)──> loop goroutine
//	loop goroutine: Woken (look at your queue) · Tick · Owner.Writable · Owner.Gone
//
// The epoll engine (Linux) takes the descriptor out of Go's network poller:
// neither a goroutine nor a buffer belongs to an idle client. The portable
// engine does the same work with two goroutines a client, anywhere Go runs.
package engine

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
)

const (
	// MaxRead is how many bytes a client of a stream may send before it is
	// closed: there is nothing to say to a server-sent event stream.
	MaxRead = 16 << 10
	// SendBuffer bounds in bytes what the kernel, or the portable engine,
	// keeps for a client that does not read. (Linux doubles it for its own
	// bookkeeping.)
	SendBuffer = 64 << 10
	// TickEvery is about how often Handler.Tick is called.
	TickEvery = 250 * time.Millisecond
)

// Errors given to Owner.Gone.
var (
	ErrFlood  = errors.New("client sent more than a stream's client may")
	ErrClosed = errors.New("socket is closed")
)

// Owner is told what happens to one socket, always on its loop's goroutine.
type Owner interface {
	// Writable is called once after a Write that took less than it was given,
	// when the socket can take more.
	Writable()
	// Gone is called at most once, never after Close: the client closed its
	// end (io.EOF), the connection broke, or ErrFlood. The owner has to Close.
	Gone(cause error)
}

// Socket is one client's connection.
type Socket interface {
	// Write takes what fits now, without blocking: n < len(p) with a nil error
	// means that Writable will be called. Loop goroutine only.
	Write(p []byte) (n int, err error)
	// Close closes the connection after what Write took. Once added to a loop,
	// loop goroutine only; before that, from anywhere.
	Close()
}

// Handler is the user's side of a loop; all calls come on the loop's goroutine.
type Handler interface {
	// Woken is called after one or several Wake, and at every tick.
	Woken()
	Tick(now time.Time)
}

// Loop is one goroutine and the sockets that belong to it.
type Loop interface {
	// Run drives the loop until Stop, then closes all sockets left (without
	// telling their owners) and returns.
	Run(h Handler)
	// Wake makes the loop call Woken soon; any goroutine, never blocks.
	Wake()
	Stop()
	// Add makes a socket from Take part of the loop. Loop goroutine only. After
	// an error the socket is closed.
	Add(s Socket, o Owner) error
}

// Engine makes sockets and loops.
type Engine interface {
	Name() string
	Loops() []Loop
	// Listener is how to listen for connections that are to be given to Take. stuck
	// bounds how long sent bytes may stay unacknowledged; 0: as the system has it.
	Listener(stuck time.Duration) net.ListenConfig
	// Take makes a connection the engine's own. Any goroutine. stuck is what the
	// listener had: the portable engine looks to it by itself. gone is called once
	// the connection is closed, on any goroutine, and must not block; nil: nobody is
	// told. After an error it is not called.
	Take(c net.Conn, stuck time.Duration, gone func()) (Socket, error)
	// KeepsConn tells whether the net.Conn given to Take must stay open; the
	// caller closes it otherwise.
	KeepsConn() bool
}

// New makes an engine by name: "epoll" (Linux only), "portable", or "auto" for
// the best one here. loops <= 0 means one for each processor, at most 8.
func New(name string, loops int) (Engine, error) {
	if loops <= 0 {
		loops = min(runtime.GOMAXPROCS(0), 8)
	}
	switch name {
	case "auto":
		if epollHere {
			return newEpoll(loops)
		}
		return newPortable(loops), nil
	case "epoll":
		if !epollHere {
			return nil, fmt.Errorf("the epoll engine exists on Linux only, not on %s: use auto or portable", runtime.GOOS)
		}
		return newEpoll(loops)
	case "portable":
		return newPortable(loops), nil
	}
	return nil, fmt.Errorf("no engine %q: want auto, epoll or portable", name)
}
