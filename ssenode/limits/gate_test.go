package limits

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"sluice/shared/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait bounds every wait of these tests; only a hang reaches it.
const wait = 10 * time.Second

// door is a gate whose connections are accepted as they come.
type door struct {
	*Gate
	t    *testing.T
	came chan *Conn
}

func openDoor(t *testing.T, change func(*Bounds), more ...func(*Gate)) *door {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := Bounds{MaxConnections: 100, MaxPending: 100, MaxHead: 1 << 14, MaxBody: 1 << 14, AwayRetry: time.Second}
	change(&b)
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	d := &door{Gate: New(ln.(*net.TCPListener), b, slog.New(slog.DiscardHandler)), t: t, came: make(chan *Conn, 1000)}
	for _, f := range more {
		f(d.Gate)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			d.came <- c.(*Conn)
		}
	}()
	t.Cleanup(func() {
		d.Close()
		<-ended
		for {
			select {
			case c := <-d.came:
				c.Close()
			default:
				return
			}
		}
	})
	return d
}

// stopped takes the time away from a gate.
func stopped(g *Gate) {
	now := time.Now()
	g.now = func() time.Time { return now }
}

// dial connects a client.
func (d *door) dial() net.Conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// next is the server's side of a connection that was accepted.
func (d *door) next() *Conn {
	d.t.Helper()
	select {
	case c := <-d.came:
		return c
	case <-time.After(wait):
		d.t.Fatal("no connection was accepted")
		return nil
	}
}

// isClosed waits until the other end has closed a connection.
func isClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(wait))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v: want the end", n, err)
	}
}

func (d *door) counted(r Reason, want uint64) {
	d.t.Helper()
	embedded.Eventually(d.t, r.String()+" is counted", wait, func() bool { return d.Refused(r) == want })
}

// When too many wait for a request, the one that has done so for longest makes room,
// once it had its time. Until then new ones wait, and get in when one goes on.
func TestPending(t *testing.T) {
	d := openDoor(t, func(b *Bounds) { b.MaxPending = 3 })
	began := time.Now()
	var clients []net.Conn
	var conns []*Conn
	for range 3 {
		clients = append(clients, d.dial())
		conns = append(conns, d.next())
	}
	// Another one comes: the first is closed for it, not before its time.
	d.dial()
	fourth := d.next()
	if took := time.Since(began); took < grace {
		t.Errorf("the first had only %s", took)
	}
	isClosed(t, clients[0])
	d.counted(Pending, 1)
	if _, err := conns[0].Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the server reads: %v", err)
	}
	conns[0].Close()
	if n := d.Waiting(); n != 3 {
		t.Errorf("%d wait, want 3", n)
	}
	// A request makes room at once, and so does an end.
	conns[2].Arrived()
	d.dial()
	d.next()
	fourth.Close()
	d.dial()
	d.next()
	if n := d.Waiting(); n != 3 {
		t.Errorf("%d wait, want 3", n)
	}
	d.counted(Pending, 1)
	conns[1].Close()
	conns[2].Close()
	if n := d.Waiting(); n != 2 {
		t.Errorf("%d wait, want 2", n)
	}
}

// After its answer a connection waits again if there is room, or if another one has
// waited for long enough.
func TestPendingAgain(t *testing.T) {
	f := func(grace time.Duration, whose int) {
		t.Helper()
		d := openDoor(t, func(b *Bounds) { b.MaxPending = 2 }, func(g *Gate) { g.grace = grace })
		var clients []net.Conn
		var conns []*Conn
		for range 3 {
			clients = append(clients, d.dial())
			conns = append(conns, d.next())
			if len(conns) == 1 {
				conns[0].Arrived()
				conns[0].Wait()
				conns[0].Arrived()
			}
		}
		conns[0].Wait()
		isClosed(t, clients[whose])
		d.counted(Pending, 1)
		for _, c := range conns {
			c.Close()
		}
		if n := d.Waiting(); n != 0 {
			t.Errorf("%d wait, want none", n)
		}
	}
	f(time.Hour, 0)
	f(0, 1)
}

func TestPendingOfAddress(t *testing.T) {
	d := openDoor(t, func(b *Bounds) { b.MaxPerAddress = 2 })
	d.dial()
	d.dial()
	first, second := d.next(), d.next()
	isClosed(t, d.dial())
	d.counted(Address, 1)
	first.Arrived()
	d.dial()
	d.next()
	second.Close()
	d.dial()
	d.next()
	isClosed(t, d.dial())
	d.counted(Address, 2)
	if n := d.Known(); n != 1 {
		t.Errorf("%d addresses are known, want 1", n)
	}
}

// A proxy's connections are not its clients'.
func TestProxyIsNotCounted(t *testing.T) {
	d := openDoor(t, func(b *Bounds) {
		b.MaxPerAddress, b.AttemptsPerAddress, b.CallsPerAddress = 1, 2, 2
		b.TrustedProxies = *proxies(t, "127.0.0.0/8")
	}, stopped)
	enter := func(c *Conn, from string, reason string) {
		t.Helper()
		c.Arrived()
		err := c.Enter(fields{"X-Forwarded-For": {from}}, true)
		if text := ""; err != nil || reason != "" {
			if err != nil {
				text = err.(*Over).Reason.String()
			}
			if text != reason {
				t.Errorf("from %s: got %v, want %q", from, err, reason)
			}
		}
	}
	var list []*Conn
	for range 5 {
		d.dial()
		list = append(list, d.next())
	}
	enter(list[0], "1.1.1.1", "")
	enter(list[1], "2.2.2.2", "")
	enter(list[2], "2.2.2.2", "address")
	enter(list[2], "2.2.2.2", "attempts")
	enter(list[3], "3.3.3.3", "")
	list[3].Leave()
	enter(list[4], "3.3.3.3", "")
	for i, want := range []bool{true, true, false} {
		if err := list[4].Call(fields{"Forwarded": {"for=4.4.4.4"}}); (err == nil) != want {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if err := list[4].Call(fields{"Forwarded": {"for=5.5.5.5"}}); err != nil {
		t.Errorf("call of another: %v", err)
	}
}

// Those that come too often are closed, at first with an answer.
func TestAttempts(t *testing.T) {
	d := openDoor(t, func(b *Bounds) { b.AttemptsPerAddress = 3 }, stopped, func(g *Gate) { g.answers = rate.NewLimiter(0, 2) })
	for i := range 5 {
		d.dial()
		c := d.next()
		c.Arrived()
		err := c.Enter(fields{}, true)
		if hasty := i >= 3; (err != nil) != hasty || hasty && err.(*Over).Reason != Attempts {
			t.Errorf("connection %d: %v", i, err)
		}
		c.Close()
	}
	isClosed(t, d.dial())
	d.counted(Attempts, 3)
	if n := d.Open(); n != 0 {
		t.Errorf("%d are counted, want none", n)
	}
}

// Whoever is closed while it is counted, or is given away, counts exactly once.
func TestHolding(t *testing.T) {
	d := openDoor(t, func(b *Bounds) { b.MaxConnections, b.MaxPerAddress, b.MaxPerSubject = 2, 2, 1 })
	enter := func(subject string) (*Conn, error) {
		t.Helper()
		d.dial()
		c := d.next()
		c.Arrived()
		if err := c.Enter(fields{}, true); err != nil {
			return c, err
		}
		return c, c.EnterAs(subject)
	}
	must := func(subject string) *Conn {
		t.Helper()
		c, err := enter(subject)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := must("a")
	if c, err := enter("a"); err == nil || err.(*Over).Reason != Subject {
		t.Errorf("a second time: %v", err)
	} else {
		c.Leave()
		c.Close()
	}
	b := must("b")
	if c, err := enter(""); err == nil || err.(*Over).Reason != Address {
		t.Errorf("the third: %v", err)
	} else {
		c.Close()
	}
	gone := a.HandOver()
	a.Close()
	a.Close()
	if n := d.Open(); n != 2 {
		t.Errorf("%d are open, want 2: one was handed over", n)
	}
	gone()
	b.Close()
	b.Leave()
	if d.Open() != 0 || d.Known() != 0 || d.subjects.size() != 0 {
		t.Errorf("left: %d open, %d addresses, %d subjects", d.Open(), d.Known(), d.subjects.size())
	}
	// Closed before it is counted.
	d.dial()
	c := d.next()
	c.Close()
	if err := c.Enter(fields{}, true); err != nil || d.Open() != 0 || d.Known() != 0 {
		t.Errorf("closed: %v, %d open, %d addresses", err, d.Open(), d.Known())
	}
	if (*Conn)(nil).Enter(fields{}, true) != nil || (*Conn)(nil).HandOver() != nil || Of(nil) != nil {
		t.Error("what came otherwise is counted nowhere")
	}
}

// A gate that waits for room ends when it is closed.
func TestCloseWhileFull(t *testing.T) {
	d := openDoor(t, func(b *Bounds) { b.MaxPending = 1 }, func(g *Gate) { g.grace = time.Hour })
	d.dial()
	d.next()
	isWaiting := func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.full }
	last := d.dial()
	embedded.Eventually(t, "the gate waits", wait, isWaiting)
	d.Close()
	isClosed(t, last)
}

func TestBounds(t *testing.T) {
	f := func(text string, change func(*Bounds)) {
		t.Helper()
		b := Bounds{MaxConnections: 1, MaxPending: 1, MaxHead: 1024, MaxBody: 1024, AwayRetry: time.Second}
		change(&b)
		if err := b.Validate(); text == "" && err != nil || text != "" && (err == nil || !strings.HasPrefix(err.Error(), text)) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	f("", func(*Bounds) {})
	f("SSENODE_MAX_CONNECTIONS=0: want 1 to ", func(b *Bounds) { b.MaxConnections = 0 })
	f("SSENODE_MAX_PENDING=-1: want 1 to 1048576", func(b *Bounds) { b.MaxPending = -1 })
	f("SSENODE_MAX_PER_ADDRESS=-1: want 0 to", func(b *Bounds) { b.MaxPerAddress = -1 })
	f("SSENODE_MAX_PER_SUBJECT=-1: want 0 to", func(b *Bounds) { b.MaxPerSubject = -1 })
	f("SSENODE_ATTEMPTS_PER_ADDRESS=-1: want 0 to", func(b *Bounds) { b.AttemptsPerAddress = -1 })
	f("SSENODE_CALLS_PER_ADDRESS=-1: want 0 to", func(b *Bounds) { b.CallsPerAddress = -1 })
	f("SSENODE_MAX_HEAD=100: want 1024 to 1048576", func(b *Bounds) { b.MaxHead = 100 })
	f("SSENODE_MAX_BODY=100: want 1024 to", func(b *Bounds) { b.MaxBody = 100 })
	f("SSENODE_AWAY_RETRY=0s: want 1ms to 24h", func(b *Bounds) { b.AwayRetry = 0 })

	for _, files := range []uint64{0, 1, 100, 1024, 20000, 1 << 20, 1 << 63} {
		b := Bounds{MaxConnections: 100000, MaxPending: 4096}
		b.fit(files)
		if b.MaxConnections < 1 || b.MaxPending < 1 || files >= 1024 && uint64(b.MaxConnections+b.MaxPending+spareFiles) > files && files < 1<<17 {
			t.Errorf("%d files: %d connections, %d pending", files, b.MaxConnections, b.MaxPending)
		}
		if files >= 1<<20 && b.MaxConnections != 100000 || files == 20000 && b.MaxConnections < 15000 {
			t.Errorf("%d files: only %d connections", files, b.MaxConnections)
		}
	}
}
