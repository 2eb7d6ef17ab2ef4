// Command bridge mirrors Redis pub/sub into NATS; -h lists its settings.
package main

import "sluice/bridge"

func main() { bridge.Spec().Main() }
