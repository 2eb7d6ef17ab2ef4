// Command ssenode runs one SSE node; -h lists its settings.
package main

import "sluice/ssenode"

func main() { ssenode.Spec().Main() }
