package ssenode

// reason names why a stream was closed: a metric label and a field of the debug
// log. The list is part of the contract with operators.
type reason uint8

const (
	clientGone reason = iota
	stuck
	drained
	aged
	tokenExpired
	revoked
	limit
	shutdown
	failed
	reasons // how many there are
)

func (r reason) String() string {
	return [reasons]string{"client-gone", "stuck", "drain", "max-age", "token-expired", "revoked", "limit", "shutdown", "error"}[r]
}

// dropReason names why an event did not reach somebody.
type dropReason uint8

const (
	slowConsumer dropReason = iota // no room until the channel's place in the stream was known; fetched from there
	slowClient                     // a client's position fell out of ring and history
	behindClient                   // priority=low: a client was behind for too long
	duplicate                      // came twice; given out once
	superseded                     // throttle=: a later one came within the interval
	notEnvelope                    // format=envelope, and the payload is none
	badCriteria                    // an envelope with criteria that cannot be read
	badSubject                     // not a channel's subject; another program writes here
	drops
)

func (d dropReason) String() string {
	return [drops]string{"slow-consumer", "slow", "behind", "duplicate", "superseded", "not-envelope", "bad-criteria", "bad-subject"}[d]
}

// ignorance names why a revocation in the bucket is not heeded.
type ignorance uint8

const (
	malformedRevocation ignorance = iota // not what the key is of
	tooManyRevocations                   // the node has no room for it
	ignorances
)

func (i ignorance) String() string { return [ignorances]string{"malformed", "full"}[i] }

// liveRefusal names why a live stream's channels are not changed.
type liveRefusal uint8

const (
	liveFull   liveRefusal = iota // it has as many as it may
	liveBehind                    // it is behind, and as many changes as may wait do so
	liveLate                      // the channel's place in the stream is not known yet
	liveLonger                    // its token ends later than the one that was shown
	liveRefusals
)

func (r liveRefusal) String() string {
	return [liveRefusals]string{"full", "behind", "late", "longer"}[r]
}
