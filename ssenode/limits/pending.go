package limits

import "time"

// wait puts a connection among those that wait for a request. If there are too many
// and none of them has waited for long enough to be closed, it returns how long to
// wait before it is tried again; nothing if it is not to be.
func (g *Gate) wait(c *Conn, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.direct && g.b.MaxPerAddress > 0 && c.at == nil {
		if c.at = g.addresses.wait(keyOf(c.peer), g.b.MaxPerAddress, now); c.at == nil {
			g.Count(Address)
			return 0, false
		}
	}
	if g.waiting >= g.b.MaxPending {
		if wait = g.grace - now.Sub(g.first.since); wait > 0 {
			g.full = true
			return wait, false
		}
		g.closeFirst()
	}
	c.since, c.listed = now, true
	if c.prev = g.last; c.prev != nil {
		c.prev.next = c
	} else {
		g.first = c
	}
	g.last = c
	g.waiting++
	return 0, true
}

// goOn takes a connection out of those that wait.
func (g *Gate) goOn(c *Conn) {
	g.mu.Lock()
	if c.listed {
		g.unlist(c)
	}
	at := c.at
	c.at = nil
	g.mu.Unlock()
	at.goOn()
}

// unlist is goOn for the list. The caller holds the lock.
func (g *Gate) unlist(c *Conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		g.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		g.last = c.prev
	}
	c.prev, c.next, c.listed = nil, nil, false
	g.waiting--
	if g.full {
		g.full = false
		select {
		case g.room <- struct{}{}:
		default:
		}
	}
}

// makeRoom closes the connection that has waited longest, however long that is.
func (g *Gate) makeRoom() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first != nil {
		g.closeFirst()
	}
}

// closeFirst closes the connection that has waited longest. Only its descriptor:
// the goroutine that reads it sees that and ends it. The caller holds the lock.
func (g *Gate) closeFirst() {
	c := g.first
	g.unlist(c)
	c.TCPConn.Close()
	g.Count(Pending)
}
