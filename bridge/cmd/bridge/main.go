// Command bridge mirrors Redis pub/sub into NATS; -h lists its settings.
package main

import (
	"runtime"

	"sluice/bridge"
)

// idleHeap is memory that is reserved and never touched, so that none of it is resident.
// The garbage collector runs when the heap has doubled; a bridge keeps next to nothing,
// but makes half a kilobyte of garbage for a message, and without this the collector ran
// dozens of times a second under load.
const idleHeap = 32 << 20

func main() {
	reserve := make([]byte, idleHeap)
	bridge.Spec().Main()
	runtime.KeepAlive(reserve)
}
