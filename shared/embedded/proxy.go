package embedded

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a TCP hop in front of a server that can swallow what either side
// says, let the server wait, be slow, cut all connections, or be shut.
type Proxy struct {
	ln      net.Listener
	to      string
	Swallow atomic.Bool               // from the server to the client: lost
	Mute    atomic.Bool               // from the client to the server: lost
	Stall   atomic.Bool               // from the server to the client: later
	Hold    atomic.Bool               // from the client to the server: later
	Rate    atomic.Int64              // from the client to the server: bytes in a second, about; 0: as fast as it goes
	mu      sync.Mutex                // guards the following fields
	conns   map[net.Conn]*atomic.Bool // whether what its server says is lost
	shut    bool                      // lets nobody through
	closed  atomic.Bool
	wg      sync.WaitGroup
}

// TestProxy starts a proxy to the address that lives as long as the test.
func TestProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{ln: ln, to: to, conns: map[net.Conn]*atomic.Bool{}}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		ln.Close()
		p.closed.Store(true)
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

func (p *Proxy) serve() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		// So that a server notices soon when it has to wait.
		_ = server.(*net.TCPConn).SetReadBuffer(256 << 10)
		p.mu.Lock()
		if p.shut {
			p.mu.Unlock()
			client.Close()
			server.Close()
			continue
		}
		hang := &atomic.Bool{}
		p.conns[client], p.conns[server] = hang, hang
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(client, server, &p.Swallow, hang) })
		p.wg.Go(func() { p.copy(server, client, &p.Mute, &p.Mute) })
	}
}

func (p *Proxy) copy(dst, src net.Conn, lost, hang *atomic.Bool) {
	defer func() {
		dst.Close()
		src.Close()
		p.mu.Lock()
		delete(p.conns, dst)
		delete(p.conns, src)
		p.mu.Unlock()
	}()
	wait := &p.Stall
	if lost == &p.Mute {
		wait = &p.Hold
	}
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		if err != nil {
			return
		}
		for wait.Load() && !p.closed.Load() {
			time.Sleep(time.Millisecond)
		}
		if lost.Load() || hang.Load() {
			continue
		}
		if _, err := dst.Write(b[:n]); err != nil {
			return
		}
		if rate := p.Rate.Load(); rate > 0 && lost == &p.Mute {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
	}
}

// Hang loses all that the server says from now on, on the connections that
// there are now. They have to be cut: TCP never goes on after a loss.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, hang := range p.conns {
		hang.Store(true)
	}
}

// Cut closes all connections; new ones are let through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Shut closes all connections and, until Reopen, each new one as soon as it is
// there.
func (p *Proxy) Shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	p.cut()
}

// Reopen lets new connections through again.
func (p *Proxy) Reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
}

// cut closes all connections; mu is held.
func (p *Proxy) cut() {
	for c := range p.conns {
		c.Close()
	}
}
