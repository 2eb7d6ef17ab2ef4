package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const wait = 10 * time.Second

func eachEngine(t *testing.T, f func(t *testing.T, e Engine)) {
	for _, name := range []string{"auto", "portable", "tls"} {
		t.Run(name, func(t *testing.T) { f(t, newEngine(t, name)) })
	}
}

func newEngine(t *testing.T, name string) Engine {
	t.Helper()
	overTLS := name == "tls"
	if overTLS {
		name = "portable"
	}
	e, err := New(name, 1)
	if err != nil {
		t.Fatal(err)
	}
	if overTLS {
		return newTLSEngine(t, e)
	}
	return e
}

// rig runs one loop and lets the test do things on its goroutine.
type rig struct {
	t     *testing.T
	e     Engine
	mu    sync.Mutex
	calls []func()
	ticks chan time.Time
	open  atomic.Int64 // sockets that were taken and not reported as closed
}

func newRig(t *testing.T, e Engine) *rig {
	r := &rig{t: t, e: e, ticks: make(chan time.Time, 100)}
	var wg sync.WaitGroup
	wg.Go(func() { e.Loops()[0].Run(r) })
	t.Cleanup(func() {
		e.Loops()[0].Stop()
		wg.Wait()
		if n := r.open.Load(); n != 0 {
			t.Errorf("of %d sockets the end was not told, or twice", n)
		}
	})
	return r
}

func (r *rig) Woken() {
	r.mu.Lock()
	calls := r.calls
	r.calls = nil
	r.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

func (r *rig) Tick(now time.Time) {
	select {
	case r.ticks <- now:
	default:
	}
}

// do runs f on the loop and waits for it.
func (r *rig) do(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	r.mu.Lock()
	r.calls = append(r.calls, func() { f(); close(done) })
	r.mu.Unlock()
	r.e.Loops()[0].Wake()
	select {
	case <-done:
	case <-time.After(wait):
		r.t.Fatal("loop does not answer")
	}
}

// peer is an owner that notes what it is told.
type peer struct {
	sock     Socket
	writable chan struct{}
	gone     chan error
}

func (p *peer) Writable()        { p.writable <- struct{}{} }
func (p *peer) Gone(cause error) { p.gone <- cause; p.sock.Close() }

// connect gives the loop one end of a TCP connection and returns the other.
func (r *rig) connect() (*peer, net.Conn) {
	r.t.Helper()
	lc := r.e.Listener(wait)
	ln, err := lc.Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(wait))
	server, err := ln.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	shaken := make(chan error, 1)
	if e, ok := r.e.(tlsEngine); ok {
		secure := tls.Client(client, e.client)
		client = secure
		go func() { shaken <- secure.Handshake() }()
	} else {
		shaken <- nil
	}
	p := &peer{writable: make(chan struct{}, 1000), gone: make(chan error, 2)}
	if p.sock, err = r.e.Take(server, wait, func() { r.open.Add(-1) }); err != nil {
		r.t.Fatal(err)
	}
	r.open.Add(1)
	if err := receive(r.t, "handshake", shaken); err != nil {
		r.t.Fatal(err)
	}
	if !r.e.KeepsConn() {
		server.Close()
	}
	r.do(func() {
		if err := r.e.Loops()[0].Add(p.sock, p); err != nil {
			r.t.Error(err)
		}
	})
	return p, client
}

func receive[T any](t *testing.T, what string, c chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(wait):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

func TestWritesAndNotices(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		r := newRig(t, e)
		p, client := r.connect()
		r.do(func() {
			if n, err := p.sock.Write([]byte("hello")); n != 5 || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
		})
		b := make([]byte, 5)
		if _, err := io.ReadFull(client, b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
		client.Close()
		if err := receive(t, "gone", p.gone); err == nil {
			t.Error("gone without a cause")
		}
		r.do(func() {
			if _, err := p.sock.Write([]byte("x")); !errors.Is(err, ErrClosed) {
				t.Errorf("write after close: %v", err)
			}
		})
		receive(t, "tick", r.ticks)
	})
}

// A peer that reads nothing takes a bounded number of bytes; when it reads, the
// owner is told, and all bytes come in order.
func TestFullSocket(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		r := newRig(t, e)
		p, client := r.connect()
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
		sent := 0
		write := func() {
			n, err := p.sock.Write(data[sent:])
			if err != nil {
				t.Error(err)
			}
			sent += n
		}
		r.do(write)
		if sent == len(data) {
			t.Fatal("4 MiB fit without a reader")
		}
		// Until it really is full: the kernel takes some more at first.
		stalled := func() bool {
			select {
			case <-p.writable:
				r.do(write)
				return false
			case <-time.After(200 * time.Millisecond):
				return true
			}
		}
		for !stalled() {
		}
		if sent == len(data) {
			t.Fatal("4 MiB fit without a reader")
		}
		var got []byte
		read := make(chan struct{})
		go func() {
			defer close(read)
			got, _ = io.ReadAll(io.LimitReader(client, int64(len(data))))
		}()
		for sent < len(data) {
			receive(t, "writable", p.writable)
			r.do(write)
		}
		receive(t, "all is read", read)
		if !bytes.Equal(got, data) {
			t.Error("other bytes came out")
		}
		if len(p.gone) > 0 {
			t.Error("gone while in use")
		}
	})
}

func TestCloseSendsWhatWasTaken(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		r := newRig(t, e)
		p, client := r.connect()
		r.do(func() {
			if _, err := p.sock.Write([]byte("last words")); err != nil {
				t.Error(err)
			}
			p.sock.Close()
			p.sock.Close()
		})
		if b, err := io.ReadAll(client); err != nil || string(b) != "last words" {
			t.Errorf("%q, %v", b, err)
		}
		if len(p.gone) > 0 {
			t.Error("gone after close")
		}
	})
}

func TestFlood(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		r := newRig(t, e)
		p, client := r.connect()
		if _, err := client.Write(make([]byte, MaxRead)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-p.gone:
			t.Fatalf("gone after as much as is allowed: %v", err)
		case <-r.ticks:
		}
		_, _ = client.Write([]byte("x"))
		if err := receive(t, "gone", p.gone); !errors.Is(err, ErrFlood) {
			t.Errorf("gone by %v, want ErrFlood", err)
		}
	})
}

// Sockets whose slot or descriptor is reused never hear of their predecessor.
func TestReuse(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		r := newRig(t, e)
		rounds := 200
		if _, ok := e.(tlsEngine); ok {
			rounds = 20 // handshakes are dear
		}
		for range rounds {
			a, ca := r.connect()
			b, cb := r.connect()
			ca.Close() // its event is under way while a is closed and c takes its place
			r.do(func() { a.sock.Close() })
			c, cc := r.connect()
			r.do(func() {
				for _, p := range []*peer{b, c} {
					if _, err := p.sock.Write([]byte("x")); err != nil {
						t.Error(err)
					}
				}
			})
			one := make([]byte, 1)
			for _, conn := range []net.Conn{cb, cc} {
				if _, err := io.ReadFull(conn, one); err != nil {
					t.Fatal(err)
				}
			}
			if len(b.gone)+len(c.gone) > 0 {
				t.Fatal("told of another's end")
			}
			r.do(func() { b.sock.Close(); c.sock.Close() })
		}
	})
}

func TestStopClosesAll(t *testing.T) {
	for _, name := range []string{"auto", "portable", "tls"} {
		e := newEngine(t, name)
		r := &rig{t: t, e: e, ticks: make(chan time.Time, 100)}
		done := make(chan struct{})
		go func() { defer close(done); e.Loops()[0].Run(r) }()
		_, c1 := r.connect()
		_, c2 := r.connect()
		e.Loops()[0].Stop()
		receive(t, "loop ends", done)
		for _, c := range []net.Conn{c1, c2} {
			if _, err := io.ReadAll(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New("magic", 1); err == nil || !strings.Contains(err.Error(), "portable") {
		t.Errorf("got %v", err)
	}
}
