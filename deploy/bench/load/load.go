//go:build linux

// Package load is the clients' side of a benchmark: many thousand streams in one
// goroutine, on epoll, without a buffer for each. It checks that every client
// gets every message of its channel once and in order, and how late.
//
// A message is what Payload makes: its number in its channel, the time at which
// it was published, and padding.
package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	// PayloadSize is the size of a message in bytes.
	PayloadSize = 200
	// stamp is how much of a payload is of interest: the number, a blank, and
	// the time in nanoseconds.
	stamp = 10 + 1 + 19
	// lineMax is how much of a line is kept when it comes in parts.
	lineMax = len("data: ") + stamp
)

// Payload makes message n of a channel, as of now.
func Payload(n uint64, now time.Time) []byte {
	b := make([]byte, 0, PayloadSize)
	b = fmt.Appendf(b, "%010d %019d ", n, now.UnixNano())
	for len(b) < PayloadSize {
		b = append(b, 'x')
	}
	return b
}

// conn is one client.
type conn struct {
	fd      int32
	channel int32
	ready   bool
	counts  bool   // it has seen a message: the first says where it begins
	next    uint64 // expected number
	line    [lineMax]byte
	n       uint8 // bytes of the line begun, lineMax at most
}

// Clients are open streams. All but the counters is owned by the reading
// goroutine.
type Clients struct {
	epoll   int
	conns   []conn
	done    chan struct{}
	stop    atomic.Bool
	failed  atomic.Pointer[error]
	ready   atomic.Int64
	got     atomic.Int64 // messages received, over all clients
	waiting atomic.Int64 // notify when got has reached this
	reached chan struct{}
	now     int64 // Unix nanoseconds, of the batch in work

	mu   sync.Mutex // guards conns while they are opened, and late
	late *hdrhistogram.Histogram
}

// Options of Open.
type Options struct {
	Clients int
	// Request is the i-th client's path and further header lines.
	Request func(i int) (path string, header string)
	// Channel is which channel the i-th client has, from 0.
	Channel func(i int) int
	// Frozen clients connect and read nothing: those from this index on. 0: none.
	// Their receive buffers are small: they count here, where clients and server are
	// one machine, towards the kernel's bound for TCP memory (net.ipv4.tcp_mem), and
	// once that is reached all connections crawl.
	Frozen int
	Wait   time.Duration // for all of them to be connected; default 60 s
}

// Open connects the clients, and returns once all are.
func Open(addr string, o Options) (*Clients, error) {
	to, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	sa := &unix.SockaddrInet4{Port: to.Port}
	copy(sa.Addr[:], to.IP.To4())
	c := &Clients{
		conns: make([]conn, o.Clients), done: make(chan struct{}), reached: make(chan struct{}, 1),
		late: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go c.read()
	reading := 0
	for i := range c.conns {
		path, header := o.Request(i)
		frozen := o.Frozen > 0 && i >= o.Frozen
		room := 0
		if frozen {
			room = 16 << 10
		}
		fd, err := dial(sa, room, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n%s\r\n", path, header))
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		c.mu.Lock() // epoll orders this and the reading, but the race detector does not know it
		c.conns[i].fd, c.conns[i].channel = int32(fd), int32(o.Channel(i))
		c.mu.Unlock()
		if frozen {
			continue
		}
		reading++
		if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(i)}); err != nil {
			c.Close()
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
	}
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	for limit := time.Now().Add(o.Wait); c.ready.Load() < int64(reading); {
		if err := c.Err(); err != nil {
			c.Close()
			return nil, err
		}
		if time.Now().After(limit) {
			c.Close()
			return nil, fmt.Errorf("after %s only %d of %d clients are connected", o.Wait, c.ready.Load(), reading)
		}
		time.Sleep(time.Millisecond)
	}
	return c, nil
}

// dial connects, sends the request and makes the socket non-blocking. Its receive
// buffer has that room, in bytes; 0: what the kernel makes it.
func dial(to *unix.SockaddrInet4, room int, request string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if room > 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err == nil {
		if _, err = unix.Write(fd, []byte(request)); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// Close closes all streams.
func (c *Clients) Close() {
	if c.stop.Swap(true) {
		return
	}
	<-c.done
	for i := range c.conns {
		if fd := c.conns[i].fd; fd != 0 {
			unix.Close(int(fd))
		}
	}
	unix.Close(c.epoll)
}

// Err is the first thing that was wrong: a message missing, twice or out of
// order, or a stream that ended.
func (c *Clients) Err() error {
	if e := c.failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (c *Clients) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

// Has is how many messages the i-th client has received, of a channel whose messages
// are numbered from 0.
func (c *Clients) Has(i int) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns[i].next
}

// Got is how many messages were received, over all clients.
func (c *Clients) Got() int64 { return c.got.Load() }

// Wait returns when so many messages have been received, or with an error: what
// was wrong, or that it took too long.
func (c *Clients) Wait(got int64, patience time.Duration) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	check := time.NewTicker(100 * time.Millisecond)
	defer check.Stop()
	for {
		c.waiting.Store(got)
		if c.got.Load() >= got {
			return c.Err()
		}
		select {
		case <-c.reached:
		case <-check.C:
			if err := c.Err(); err != nil {
				return err
			}
		case <-limit.C:
			return fmt.Errorf("after %s %d of %d messages have come", patience, c.got.Load(), got)
		}
	}
}

// Late returns the times from publishing to receiving, and begins anew.
func (c *Clients) Late() *hdrhistogram.Histogram {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.late
	c.late = hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	return h
}

// read is the goroutine that reads all streams.
func (c *Clients) read() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	events := make([]unix.EpollEvent, 512)
	buf := make([]byte, 256<<10)
	for !c.stop.Load() {
		n, err := unix.EpollWait(c.epoll, events, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			c.fail(fmt.Errorf("epoll: %w", err))
			return
		}
		if n <= 0 {
			continue
		}
		c.now = time.Now().UnixNano()
		before := c.got.Load()
		got := before
		c.mu.Lock()
		for _, e := range events[:n] {
			k := &c.conns[e.Fd]
			m, err := unix.Read(int(k.fd), buf)
			switch {
			case m > 0:
				got += c.take(k, buf[:m])
			case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			default:
				c.fail(fmt.Errorf("the stream of client %d ended: %v", e.Fd, err))
				_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, int(k.fd), nil)
			}
		}
		c.mu.Unlock()
		c.got.Store(got)
		if w := c.waiting.Load(); before < w && got >= w {
			select {
			case c.reached <- struct{}{}:
			default:
			}
		}
	}
}

// take reads the lines of a piece of a stream and returns how many messages
// there were.
func (c *Clients) take(k *conn, b []byte) (got int64) {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		whole := b
		if end >= 0 {
			whole = b[:end]
		}
		if k.n > 0 || end < 0 { // the line comes in parts
			k.n += uint8(copy(k.line[k.n:], whole))
			if end < 0 {
				return got
			}
			whole = k.line[:k.n]
			k.n = 0
		}
		b = b[end+1:]
		if len(whole) >= 6 && string(whole[:6]) == "data: " {
			got += c.data(k, whole[6:])
		} else if !k.ready && string(whole) == "event: connected" {
			k.ready = true
			c.ready.Add(1)
		} else if !k.ready && bytes.HasPrefix(whole, []byte("HTTP/1.1 ")) && !bytes.HasPrefix(whole, []byte("HTTP/1.1 200")) {
			c.fail(fmt.Errorf("answer %q", whole))
		} else if string(whole) == "event: gap" {
			c.fail(errors.New("a client was told of a gap"))
		}
	}
	return got
}

func (c *Clients) data(k *conn, b []byte) int64 {
	if len(b) < stamp || b[0] < '0' || b[0] > '9' {
		return 0 // not ours
	}
	number := digits(b[:10])
	if !k.counts {
		k.counts, k.next = true, number
	}
	if number != k.next {
		c.fail(fmt.Errorf("a client of channel %d got message %d, expected %d", k.channel, number, k.next))
	}
	k.next = number + 1
	_ = c.late.RecordValue(max(1, (c.now-int64(digits(b[11:stamp])))/int64(time.Microsecond)))
	return 1
}

func digits(b []byte) (n uint64) {
	for _, d := range b {
		n = n*10 + uint64(d-'0')
	}
	return n
}

// Begin makes every client expect the next message of its channel from n on,
// also the first one.
func (c *Clients) Begin(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.conns {
		c.conns[i].counts, c.conns[i].next = true, n
	}
}

// Channel is the name of the i-th channel.
func Channel(i int) string { return "bench:" + strconv.Itoa(i) }

// Path is a request for channels.
func Path(channels ...int) string {
	var b strings.Builder
	b.WriteString("/events")
	for k, i := range channels {
		b.WriteByte("?&"[min(k, 1)])
		b.WriteString("channel=" + strings.ReplaceAll(Channel(i), ":", "%3A"))
	}
	return b.String()
}
