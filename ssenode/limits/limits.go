// Package limits bounds what clients can take of a node: how many connections, in
// all and by address and token subject, how fast they come, how long they may sit
// there without a request.
//
// A Gate is the node's listener. What it accepts is a Conn, which is in one of
// these states:
//
//	accepted ──> waits for a request ──Arrived──> in work ──Enter──> counted
//	                  ^      └─ closed: over     │                   │  │
//	                  └────────── Wait ──────────┴──── Leave ────────┘  └─HandOver──> the engine's
//
// Those that wait are bounded by closing the ones that have waited longest; those
// that have said what they want get an answer, which the HTTP part gives.
package limits

import "fmt"

// Reason names a limit: a metric label. The list is part of the contract with
// operators.
type Reason uint8

// The limits.
const (
	Node     Reason = iota // SSENODE_MAX_CONNECTIONS
	Address                // SSENODE_MAX_PER_ADDRESS
	Subject                // SSENODE_MAX_PER_SUBJECT
	Attempts               // SSENODE_ATTEMPTS_PER_ADDRESS
	Calls                  // SSENODE_CALLS_PER_ADDRESS
	Pending                // SSENODE_MAX_PENDING
	Files                  // as many files are open as the process may have
	Channels               // SSENODE_MAX_CHANNELS
	Head                   // SSENODE_MAX_HEAD
	Body                   // SSENODE_MAX_BODY
	Time                   // SSENODE_HEAD_TIMEOUT
	Reasons                // how many there are
)

func (r Reason) String() string {
	return [Reasons]string{"node", "address", "subject", "attempts", "calls", "pending", "files", "channels", "head", "body", "time"}[r]
}

// Over is the error of a request that is over a limit.
type Over struct{ Reason Reason }

func (o *Over) Error() string {
	switch o.Reason {
	case Node:
		return "this node has as many connections as it takes"
	case Address:
		return "too many connections from this address"
	case Subject:
		return "too many connections of this token's subject"
	case Attempts:
		return "too many connection attempts from this address"
	case Calls:
		return "too many requests from this address"
	}
	return fmt.Sprintf("over the limit %s", o.Reason)
}

// Header are the header fields of a request.
type Header interface {
	// PeekAll returns the field's values, valid until the next call.
	PeekAll(name string) [][]byte
}
