package ssenode

// reason names why a stream was closed: a metric label and a field of the debug
// log. The list is part of the contract with operators.
type reason uint8

const (
	clientGone reason = iota
	stuck
	drained
	shutdown
	failed
	reasons // how many there are
)

func (r reason) String() string {
	return [reasons]string{"client-gone", "stuck", "drain", "shutdown", "error"}[r]
}

// drop names why an event did not reach somebody.
type drop uint8

const (
	slowConsumer drop = iota // nats.go had no room for it: the node is too slow
	slowClient               // a client's position fell out of the ring
	notEnvelope              // format=envelope, and the payload is none
	badSubject               // not a channel's subject; another program writes here
	drops
)

func (d drop) String() string {
	return [drops]string{"slow-consumer", "slow", "not-envelope", "bad-subject"}[d]
}
