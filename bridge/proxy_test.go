package bridge

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a TCP hop between a bridge and a server that can swallow what the
// server says, or cut all connections.
type proxy struct {
	ln      net.Listener
	to      string
	swallow atomic.Bool // from the server to the client
	mute    atomic.Bool // from the client to the server
	mu      sync.Mutex  // guards conns
	conns   map[net.Conn]bool
	wg      sync.WaitGroup
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: to, conns: map[net.Conn]bool{}}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		ln.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) serve() {
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
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(client, server, &p.swallow) })
		p.wg.Go(func() { p.copy(server, client, &p.mute) })
	}
}

func (p *proxy) copy(dst, src net.Conn, lost *atomic.Bool) {
	defer func() {
		dst.Close()
		src.Close()
		p.mu.Lock()
		delete(p.conns, dst)
		delete(p.conns, src)
		p.mu.Unlock()
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		if err != nil {
			return
		}
		if lost.Load() {
			continue
		}
		if _, err := dst.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
