package limits

import (
	"fmt"
	"time"
)

// Bounds are the part of a node's settings that says how much clients may take.
type Bounds struct {
	MaxConnections     int           `split_words:"true" default:"100000" desc:"streams and polls of this node; fewer where it may not open as many files"`
	MaxPending         int           `split_words:"true" default:"4096" desc:"connections of this node that wait for a request"`
	MaxPerAddress      int           `split_words:"true" default:"0" desc:"streams and polls of one address, and its connections that wait for a request; 0: any number"`
	MaxPerSubject      int           `split_words:"true" default:"0" desc:"streams and polls of one token subject, 0: any number"`
	AttemptsPerAddress int           `split_words:"true" default:"0" desc:"connections that one address may open in a second, 0: any number"`
	CallsPerAddress    int           `split_words:"true" default:"0" desc:"requests of one address in a second, other than for streams; 0: any number"`
	MaxHead            int           `split_words:"true" default:"16384" desc:"request line and header fields, in bytes"`
	MaxBody            int           `split_words:"true" default:"65536" desc:"body of a request, in bytes"`
	AwayRetry          time.Duration `split_words:"true" default:"10s" desc:"how long who is over a limit is told to wait, jittered by half"`
	TrustedProxies     Proxies       `split_words:"true" desc:"proxies whose X-Forwarded-For or Forwarded counts, e.g. 10.0.0.0/8,fd00::/8"`
}

// Validate checks values that parse but cannot work; errors name the setting and
// the value.
func (b *Bounds) Validate() error {
	for _, n := range []struct {
		key           string
		val, min, max int
	}{
		{"SSENODE_MAX_CONNECTIONS", b.MaxConnections, 1, 1 << 30},
		{"SSENODE_MAX_PENDING", b.MaxPending, 1, 1 << 20},
		{"SSENODE_MAX_PER_ADDRESS", b.MaxPerAddress, 0, 1 << 30},
		{"SSENODE_MAX_PER_SUBJECT", b.MaxPerSubject, 0, 1 << 30},
		{"SSENODE_ATTEMPTS_PER_ADDRESS", b.AttemptsPerAddress, 0, 1 << 30},
		{"SSENODE_CALLS_PER_ADDRESS", b.CallsPerAddress, 0, 1 << 30},
		{"SSENODE_MAX_HEAD", b.MaxHead, 1 << 10, 1 << 20},
		{"SSENODE_MAX_BODY", b.MaxBody, 1 << 10, 1 << 30},
	} {
		if n.val < n.min || n.val > n.max {
			return fmt.Errorf("%s=%d: want %d to %d", n.key, n.val, n.min, n.max)
		}
	}
	if b.AwayRetry < time.Millisecond || b.AwayRetry > 24*time.Hour {
		return fmt.Errorf("SSENODE_AWAY_RETRY=%s: want 1ms to 24h", b.AwayRetry)
	}
	return nil
}

// byAddress tells whether anything is counted by address.
func (b *Bounds) byAddress() bool {
	return b.MaxPerAddress > 0 || b.AttemptsPerAddress > 0 || b.CallsPerAddress > 0
}

// spareFiles are for all that is no client: NATS, the admin port, a key set, and
// connections of which the engine has its own descriptor already.
const spareFiles = 128

// fit makes the bounds as small as the number of files that may be open asks for.
func (b *Bounds) fit(files uint64) {
	room := int(min(files, 1<<30))
	b.MaxPending = min(b.MaxPending, max(1, room/8))
	b.MaxConnections = min(b.MaxConnections, max(1, room-b.MaxPending-spareFiles))
}
