package engine

import (
	"net"
	"sync"
	"time"
)

type portableEngine struct{ loops []Loop }

func newPortable(n int) Engine {
	e := &portableEngine{}
	for range n {
		e.loops = append(e.loops, &portableLoop{
			wake:    make(chan struct{}, 1),
			quit:    make(chan struct{}),
			sockets: map[*portableSocket]struct{}{},
		})
	}
	return e
}

func (e *portableEngine) Name() string    { return "portable" }
func (e *portableEngine) Loops() []Loop   { return e.loops }
func (e *portableEngine) KeepsConn() bool { return true }

func (e *portableEngine) Listener(time.Duration) net.ListenConfig { return net.ListenConfig{} }

func (e *portableEngine) Take(c net.Conn, stuck time.Duration, gone func()) (Socket, error) {
	if t, ok := below(c).(interface{ SetWriteBuffer(int) error }); ok {
		_ = t.SetWriteBuffer(SendBuffer) // only a bound; works without
	}
	if stuck <= 0 {
		stuck = time.Hour
	}
	return &portableSocket{conn: c, stuck: stuck, ended: gone, kick: make(chan struct{}, 1)}, nil
}

// below is the connection that carries c: that of TLS, or c itself.
func below(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// partLimit is how long the end of a connection may take. TLS says goodbye first, and
// would wait five seconds for a client that takes nothing.
const partLimit = time.Second

// part closes the connection, with a goodbye if it can be said in time.
func part(c net.Conn) {
	if raw := below(c); raw != c {
		late := time.AfterFunc(partLimit, func() { raw.Close() })
		defer late.Stop()
	}
	c.Close()
}

// portableSocket imitates a non-blocking socket with a goroutine that writes
// and one that reads.
type portableSocket struct {
	conn  net.Conn
	stuck time.Duration
	ended func()        // told when the connection is closed; may be nil
	kick  chan struct{} // to the writing goroutine: look at the fields below

	// Owned by the loop goroutine.
	loop   *portableLoop // nil until added
	owner  Owner
	gone   bool
	closed bool

	mu      sync.Mutex // guards the following fields
	pending []byte     // taken by Write, not yet given to the connection
	full    bool       // a Write was cut short; Writable is owed
	ending  bool       // closed: write what is pending, then close
}

func (s *portableSocket) Write(p []byte) (int, error) {
	if s.closed {
		return 0, ErrClosed
	}
	s.mu.Lock()
	n := min(len(p), SendBuffer-len(s.pending))
	s.pending = append(s.pending, p[:n]...)
	s.full = n < len(p)
	s.mu.Unlock()
	s.signal()
	return n, nil
}

func (s *portableSocket) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.loop == nil {
		s.end()
		return
	}
	delete(s.loop.sockets, s)
	s.mu.Lock()
	s.ending = true
	// A write under way may wait for a stuck client: it gets a moment, no more.
	// Under the lock, so that write does not set a later deadline afterwards.
	_ = s.conn.SetWriteDeadline(time.Now().Add(partLimit))
	s.mu.Unlock()
	s.signal()
}

func (s *portableSocket) end() {
	part(s.conn)
	if s.ended != nil {
		s.ended()
	}
}

func (s *portableSocket) signal() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// write is the writing goroutine; it ends by closing the connection, which also
// ends the reading one.
func (s *portableSocket) write() {
	defer s.loop.done.Done()
	defer s.end()
	var out []byte
	for range s.kick {
		s.mu.Lock()
		out, s.pending = s.pending, out[:0]
		ending, full := s.ending, s.full
		s.full = false
		if !ending && len(out) > 0 {
			_ = s.conn.SetWriteDeadline(time.Now().Add(s.stuck))
		}
		s.mu.Unlock()
		if len(out) > 0 {
			if _, err := s.conn.Write(out); err != nil {
				below(s.conn).Close() // nothing can be said any more
				s.loop.tell(notice{s, err})
				// Nobody writes again; wait for the loop's Close.
				for !ending {
					<-s.kick
					s.mu.Lock()
					ending = s.ending
					s.mu.Unlock()
				}
				return
			}
			if cap(out) > 4<<10 {
				out = nil // an idle client keeps no large buffer
			}
		}
		if ending {
			return
		}
		if full {
			s.loop.tell(notice{s, nil})
		}
	}
}

// read is the reading goroutine: it discards, and learns when the client left.
func (s *portableSocket) read() {
	defer s.loop.done.Done()
	var buf [512]byte
	for total := 0; ; {
		n, err := s.conn.Read(buf[:])
		if total += n; total > MaxRead {
			err = ErrFlood
		}
		if err != nil {
			s.loop.tell(notice{s, err})
			return
		}
	}
}

// notice is what a socket's goroutines tell the loop: gone, or writable when
// cause is nil.
type notice struct {
	sock  *portableSocket
	cause error
}

type portableLoop struct {
	wake chan struct{}
	quit chan struct{}
	done sync.WaitGroup // of the sockets' goroutines

	// Owned by the loop goroutine.
	sockets map[*portableSocket]struct{}
	spare   []notice

	mu      sync.Mutex
	notices []notice // at most two a socket and write under way
}

func (l *portableLoop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *portableLoop) Stop() { close(l.quit) }

func (l *portableLoop) tell(n notice) {
	l.mu.Lock()
	l.notices = append(l.notices, n)
	l.mu.Unlock()
	l.Wake()
}

func (l *portableLoop) Add(sock Socket, o Owner) error {
	s := sock.(*portableSocket)
	s.loop, s.owner = l, o
	l.sockets[s] = struct{}{}
	l.done.Add(2)
	go s.write()
	go s.read()
	return nil
}

func (l *portableLoop) Run(h Handler) {
	tick := time.NewTicker(TickEvery)
	defer tick.Stop()
	for {
		var now time.Time
		select {
		case <-l.wake:
		case now = <-tick.C:
		case <-l.quit:
			for s := range l.sockets {
				s.Close()
			}
			l.done.Wait() // bounded by the write deadline that Close sets
			return
		}
		l.mu.Lock()
		notices := l.notices
		l.notices = l.spare[:0]
		l.mu.Unlock()
		for _, n := range notices {
			n.sock.notify(n.cause)
		}
		clear(notices)
		l.spare = notices
		h.Woken()
		if !now.IsZero() {
			h.Tick(now)
		}
	}
}

func (s *portableSocket) notify(cause error) {
	switch {
	case s.closed || s.gone:
	case cause == nil:
		s.owner.Writable()
	default:
		s.gone = true
		s.owner.Gone(cause)
	}
}
