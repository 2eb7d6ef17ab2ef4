package control

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// helloEvery is how often a node says that it is there, give or take a quarter,
	// and lostAfter after how long a silent one is not reckoned with any more.
	helloEvery = 3 * time.Second
	lostAfter  = 10 * time.Second
	// greetWithin is how soon a node says hello to one that has just come, so that
	// many do not all do so at once; knownAfter is how long after its connection an
	// asker has therefore heard all.
	greetWithin = 200 * time.Millisecond
	knownAfter  = time.Second
	// mostPeers bounds the nodes that are known.
	mostPeers = 4096
)

// peers are the nodes that are there.
type peers struct {
	nc    *nats.Conn
	names wire.Stream
	self  *wire.Hello   // nil: not a node
	greet chan struct{} // capacity 1: somebody has just come

	mu    sync.Mutex // guards the following fields
	list  map[string]peer
	since time.Time // when the connection was made; zero without it
}

type peer struct {
	name  string
	heard time.Time
}

func newPeers(nc *nats.Conn, names wire.Stream, self *wire.Hello) *peers {
	return &peers{nc: nc, names: names, self: self, greet: make(chan struct{}, 1), list: map[string]peer{}}
}

// run ends with the context.
func (p *peers) run(ctx context.Context) {
	status := p.nc.StatusChanged(nats.CONNECTED)
	defer func(status chan nats.Status) { p.nc.RemoveStatusListener(status) }(status)
	defer p.leave()
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.connected()
	for {
		select {
		case _, open := <-status:
			if !open { // as the connection is
				status = nil
				continue
			}
			p.connected()
			p.ask()
			timer.Reset(0)
		case <-p.greet:
			timer.Reset(rand.N(greetWithin))
		case now := <-timer.C:
			p.say(false)
			p.forget(now)
			timer.Reset(helloEvery*3/4 + rand.N(helloEvery/2))
		case <-ctx.Done():
			return
		}
	}
}

func (p *peers) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Time{}
	if p.nc.IsConnected() {
		p.since = time.Now()
	}
}

// ask asks who is there. A node says hello anyway when it comes, but not to those who
// still know it: and those may be the ones that it has forgotten.
func (p *peers) ask() {
	if data, err := wire.EncodeControl(wire.Hello{Version: wire.ControlVersion}); err == nil {
		_ = p.nc.Publish(p.names.Hellos(), data)
	}
}

// say says hello. It fails without a connection, after which it is said anew.
func (p *peers) say(leaving bool) {
	hello := wire.Hello{Version: wire.ControlVersion}
	if p.self != nil {
		hello = *p.self
		hello.Leaving = leaving
	}
	if data, err := wire.EncodeControl(hello); err == nil {
		_ = p.nc.Publish(p.names.Hellos(), data)
	}
}

// leave tells the others not to wait for this node's answers.
func (p *peers) leave() {
	if p.self != nil && p.nc.IsConnected() {
		p.say(true)
		_ = p.nc.FlushTimeout(greetWithin)
	}
}

// hear takes a hello.
func (p *peers) hear(m *nats.Msg) {
	var h wire.Hello
	if err := wire.DecodeControl(m.Data, &h); err != nil {
		return
	}
	p.mu.Lock()
	_, there := p.list[h.ID]
	switch {
	case h.ID == "": // a question
	case h.Leaving:
		delete(p.list, h.ID)
		there = true
	case there || len(p.list) < mostPeers:
		p.list[h.ID] = peer{h.Name, time.Now()}
	}
	p.mu.Unlock()
	if p.self != nil && !there && h.ID != p.self.ID {
		select {
		case p.greet <- struct{}{}:
		default:
		}
	}
}

func (p *peers) forget(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, peer := range p.list {
		if now.Sub(peer.heard) > lostAfter {
			delete(p.list, id)
		}
	}
}

// now returns the names by id of those that are there, and whether these are all.
func (p *peers) now() (names map[string]string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names = make(map[string]string, len(p.list))
	for id, peer := range p.list {
		names[id] = peer.name
	}
	return names, !p.since.IsZero() && time.Since(p.since) > knownAfter && len(names) > 0
}

// nobody tells that no node is there, as far as an asker can know that.
func (p *peers) nobody() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.since.IsZero() && time.Since(p.since) > knownAfter && len(p.list) == 0
}

// left tells whether a node that was there is not any more.
func (p *peers) left(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, there := p.list[id]
	return !there
}
