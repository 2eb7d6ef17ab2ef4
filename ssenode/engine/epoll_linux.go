package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const epollHere = true

type epollEngine struct{ loops []Loop }

func newEpoll(n int) (Engine, error) {
	e := &epollEngine{}
	for range n {
		l, err := newEpollLoop()
		if err != nil {
			for _, l := range e.loops {
				l.(*epollLoop).poll.Close()
			}
			return nil, err
		}
		e.loops = append(e.loops, l)
	}
	return e, nil
}

func (e *epollEngine) Name() string    { return "epoll" }
func (e *epollEngine) Loops() []Loop   { return e.loops }
func (e *epollEngine) KeepsConn() bool { return false }

// Listener sets on the listening socket what its connections inherit on Linux: to set
// it on each of them, and Go's own four options for keep-alives, took a tenth of the
// cost of a connection.
func (e *epollEngine) Listener(stuck time.Duration) net.ListenConfig {
	return net.ListenConfig{
		KeepAlive: -1, // not by Go, for each
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			set := func(fd, level, option, value int) {
				if e := unix.SetsockoptInt(fd, level, option, value); err == nil && e != nil {
					err = fmt.Errorf("socket option %d.%d=%d: %w", level, option, value, e)
				}
			}
			raw := c.Control(func(fd uintptr) {
				s := int(fd)
				set(s, unix.SOL_SOCKET, unix.SO_SNDBUF, SendBuffer) // what a stuck client costs
				set(s, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
				set(s, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
				set(s, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
				if stuck > 0 {
					set(s, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stuck.Milliseconds()))
				}
			})
			return errors.Join(raw, err)
		},
	}
}

// Take duplicates the descriptor and leaves the net.Conn to be closed by its
// owner: that frees Go's own poll descriptor, goroutine hooks and buffers, and
// the duplicate costs only what we keep for it.
func (e *epollEngine) Take(c net.Conn, _ time.Duration, gone func()) (Socket, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("epoll engine: a %T has no descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take descriptor: %w", err)
	}
	s := &epollSocket{fd: -1, ended: gone}
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		var d int
		if d, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dupErr != nil {
			return
		}
		s.fd = int32(d)
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("take descriptor: %w", err)
	}
	return s, nil
}

// epollSocket is all that the engine keeps for a client.
type epollSocket struct {
	loop   *epollLoop // nil until added
	owner  Owner
	ended  func() // told when the descriptor is closed; may be nil
	fd     int32
	slot   int32
	read   int32 // bytes the client has sent so far
	full   bool  // a Write was cut short; Writable is owed
	gone   bool  // Gone was called
	closed bool
}

// Write sends without entering Go's scheduler: the socket never blocks, so the
// processor need not be handed over around the call (measured: a tenth of the
// cost of a write).
func (s *epollSocket) Write(p []byte) (int, error) {
	if s.closed {
		return 0, ErrClosed
	}
	done := 0
	for done < len(p) {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd),
			uintptr(unsafe.Pointer(&p[done])), uintptr(len(p)-done),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			s.full = true
			return done, nil
		default:
			return done, errno
		}
	}
	return done, nil
}

// Close takes the socket out at the end of the loop's present batch: a
// descriptor closed at once could be reused by a new connection while events
// of the old one are still to be handled.
func (s *epollSocket) Close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.loop == nil {
		s.end()
		return
	}
	s.loop.dying = append(s.loop.dying, s)
}

func (s *epollSocket) end() {
	unix.Close(int(s.fd))
	if s.ended != nil {
		s.ended()
	}
}

// epollLoop consists of two goroutines: a poller that waits in Go's own network
// poller until the epoll descriptor has something (so no thread is blocked in
// epoll_wait), and the loop, which does all the work. Edge-triggered, so a
// socket is registered once and never changed.
type epollLoop struct {
	poll *os.File
	epfd int
	wake chan struct{}
	quit chan struct{}

	// Owned by the loop goroutine.
	slots []slot
	free  []int32
	dying []*epollSocket
	spare []unix.EpollEvent

	mu     sync.Mutex
	events []unix.EpollEvent // fetched by the poller, not handled yet
}

// slot is an entry of the table that epoll's user data points into. The
// generation tells an event of a socket that has gone from one of the socket
// that took its slot.
type slot struct {
	sock *epollSocket
	gen  uint32
}

func newEpollLoop() (*epollLoop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // makes os.File use the poller
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &epollLoop{
		poll: os.NewFile(uintptr(fd), "epoll"),
		epfd: fd,
		wake: make(chan struct{}, 1),
		quit: make(chan struct{}),
	}, nil
}

func (l *epollLoop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // already due
	}
}

func (l *epollLoop) Stop() { close(l.quit) }

func (l *epollLoop) Add(sock Socket, o Owner) error {
	s := sock.(*epollSocket)
	var i int32
	if n := len(l.free); n > 0 {
		i, l.free = l.free[n-1], l.free[:n-1]
	} else {
		i = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	l.slots[i].sock = s
	s.loop, s.owner, s.slot = l, o, i
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     i,
		Pad:    int32(l.slots[i].gen),
	}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, int(s.fd), &ev); err != nil {
		s.Close()
		return fmt.Errorf("epoll: add: %w", err)
	}
	return nil
}

func (l *epollLoop) Run(h Handler) {
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		l.pollEvents()
	}()
	tick := time.NewTicker(TickEvery)
	defer tick.Stop()
	for {
		var now time.Time
		select {
		case <-l.wake:
		case now = <-tick.C:
		case <-l.quit:
			l.poll.Close() // ends the poller
			<-polled
			for _, s := range l.slots {
				if s.sock != nil {
					s.sock.Close()
				}
			}
			l.bury()
			return
		}
		l.handleEvents()
		h.Woken()
		if !now.IsZero() {
			h.Tick(now)
		}
		l.bury()
	}
}

// pollEvents moves what epoll reports into l.events.
func (l *epollLoop) pollEvents() {
	raw, err := l.poll.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]unix.EpollEvent, 512)
	for {
		n := 0
		// The poller's own notification is edge-triggered: it comes again only
		// after epoll_wait has once found nothing.
		err := raw.Read(func(fd uintptr) bool {
			for {
				var err error
				n, err = unix.EpollWait(int(fd), buf, 0)
				if err != unix.EINTR {
					return n != 0 || err != nil
				}
			}
		})
		if err != nil || n < 0 {
			return // closed
		}
		l.mu.Lock()
		l.events = append(l.events, buf[:n]...)
		l.mu.Unlock()
		l.Wake()
	}
}

func (l *epollLoop) handleEvents() {
	l.mu.Lock()
	events := l.events
	l.events = l.spare[:0]
	l.mu.Unlock()
	for _, ev := range events {
		at := &l.slots[ev.Fd]
		s := at.sock
		if s == nil || at.gen != uint32(ev.Pad) || s.closed {
			continue
		}
		if ev.Events&^unix.EPOLLOUT != 0 {
			l.discard(s)
		}
		if ev.Events&unix.EPOLLOUT != 0 && s.full && !s.closed {
			s.full = false
			s.owner.Writable()
		}
	}
	l.spare = events
}

// discard reads until there is nothing: a client has nothing to say, but its
// end of file is how one learns that it left.
func (l *epollLoop) discard(s *epollSocket) {
	var buf [2048]byte
	for !s.gone {
		n, err := unix.Read(int(s.fd), buf[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil:
			s.leave(err)
		case n == 0:
			s.leave(io.EOF)
		default:
			if s.read += int32(n); s.read > MaxRead {
				s.leave(ErrFlood)
			}
		}
	}
}

func (s *epollSocket) leave(cause error) {
	s.gone = true
	s.owner.Gone(cause)
}

// bury closes what was closed during the batch. Closing the last descriptor of
// a connection also takes it out of epoll.
func (l *epollLoop) bury() {
	for i, s := range l.dying {
		s.end()
		at := &l.slots[s.slot]
		at.sock = nil
		at.gen++
		l.free = append(l.free, s.slot)
		s.owner = nil
		l.dying[i] = nil
	}
	l.dying = l.dying[:0]
}
