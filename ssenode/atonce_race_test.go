//go:build race

package ssenode

// atOnce is how many parallel tests run at once. The race detector makes each so slow
// that others would have nothing of the processor for seconds.
const atOnce = 1
