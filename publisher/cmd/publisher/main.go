// Command publisher publishes to Redis channels: see sluice/publisher.
package main

import (
	"context"
	"os"

	"sluice/publisher"
)

func main() {
	os.Exit(publisher.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
