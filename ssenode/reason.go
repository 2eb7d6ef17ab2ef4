package ssenode

// reason names why a stream was closed: a metric label and a field of the debug
// log. The list is part of the contract with operators.
type reason uint8

const (
	clientGone reason = iota
	stuck
	drained
	tokenExpired
	limit
	shutdown
	failed
	reasons // how many there are
)

func (r reason) String() string {
	return [reasons]string{"client-gone", "stuck", "drain", "token-expired", "limit", "shutdown", "error"}[r]
}

// dropReason names why an event did not reach somebody.
type dropReason uint8

const (
	slowConsumer dropReason = iota // no room until the channel's place in the stream was known; fetched from there
	slowClient                     // a client's position fell out of ring and history
	duplicate                      // came twice; given out once
	superseded                     // throttle=: a later one came within the interval
	notEnvelope                    // format=envelope, and the payload is none
	badSubject                     // not a channel's subject; another program writes here
	drops
)

func (d dropReason) String() string {
	return [drops]string{"slow-consumer", "slow", "duplicate", "superseded", "not-envelope", "bad-subject"}[d]
}
