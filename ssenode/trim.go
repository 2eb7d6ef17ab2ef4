package ssenode

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// trimAfter is how many connections have to come, or streams go, before memory is given
	// back to the system, trimBelow how few of them in a second tell that it is
	// calm, and trimCalm how many seconds it has to be: until then fasthttp's
	// goroutines, and their stacks, are gone as well (see workerIdle).
	trimAfter = 1000
	trimBelow = 50
	trimCalm  = 3
	// workerIdle is how long a goroutine waits for another request.
	workerIdle = time.Second
)

// trim gives memory back after storms of connections: what requests need while
// they are served is many times what an idle client keeps, and the garbage
// collector would hold on to it for minutes. It ends with the context.
func (n *Node) trim(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last, done uint64
	calm := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// Come and gone, also those that never became a stream.
		now := n.gate.Accepted() + n.stats.connects.Load() - n.stats.open()
		if calm++; now-last >= trimBelow {
			calm = 0
		}
		if now-done >= trimAfter && calm >= trimCalm {
			runtime.GC() // pools are emptied by the second one
			debug.FreeOSMemory()
			done = now
		}
		last = now
	}
}
