//go:build !race

package ssenode

// atOnce is how many parallel tests run at once.
const atOnce = 10
