package ssenode

import (
	"hash/maphash"
	"sync"
)

// clients finds a loop's streams by their clientId, which several may share. It is a
// table of pointers, 9 to 21 bytes a stream, where a map would need four times that,
// and nothing in the session: a request about one client comes to all nodes, so that
// none of them may look at all its streams for it.
//
// The loop alone writes; anybody may look.
type clients struct {
	seed maphash.Seed
	gone session // marks a place that was left, over which a search goes on

	mu    sync.Mutex // guards the following fields
	slots []*session // a power of two, or none
	live  int        // sessions
	used  int        // and places that were left
}

// leastSlots is the size of a small table.
const leastSlots = 64

func newClients() *clients { return &clients{seed: maphash.MakeSeed()} }

func (c *clients) start(id string) int { return int(maphash.String(c.seed, id)) & (len(c.slots) - 1) }

func (c *clients) add(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (c.used+1)*8 > len(c.slots)*7 {
		size := max(leastSlots, len(c.slots))
		// Else the same again, without what was left.
		if c.live*8 >= size*5 {
			size *= 2
		}
		c.resize(size)
	}
	c.put(s)
}

// put needs a free place.
func (c *clients) put(s *session) {
	i := c.start(s.clientID)
	for c.slots[i] != nil && c.slots[i] != &c.gone {
		i = (i + 1) & (len(c.slots) - 1)
	}
	if c.slots[i] == nil {
		c.used++
	}
	c.slots[i] = s
	c.live++
}

func (c *clients) resize(size int) {
	old := c.slots
	c.slots, c.live, c.used = make([]*session, size), 0, 0
	for _, s := range old {
		if s != nil && s != &c.gone {
			c.put(s)
		}
	}
}

// remove takes out a session if it is there.
func (c *clients) remove(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.slots) == 0 {
		return
	}
	last := len(c.slots) - 1
	for i := c.start(s.clientID); c.slots[i] != nil; i = (i + 1) & last {
		if c.slots[i] != s {
			continue
		}
		c.slots[i] = &c.gone
		c.live--
		// What is left at the end of a row is in no search's way.
		for ; c.slots[(i+1)&last] == nil && c.slots[i] == &c.gone; i = (i - 1) & last {
			c.slots[i] = nil
			c.used--
		}
		break
	}
	if c.live*8 < len(c.slots) && len(c.slots) > leastSlots {
		c.resize(max(leastSlots, len(c.slots)/4))
	}
}

// of returns the client's streams.
func (c *clients) of(id string) (list []*session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.slots) == 0 {
		return nil
	}
	for i := c.start(id); c.slots[i] != nil; i = (i + 1) & (len(c.slots) - 1) {
		if s := c.slots[i]; s != &c.gone && s.clientID == id {
			list = append(list, s)
		}
	}
	return list
}
