package publisher

import (
	"fmt"
	"net/http"
	"time"
)

// why names the reason for which a request, or one message of it, was refused:
// a metric label and part of the contract with operators.
type why uint8

const (
	badRequest      why = iota // not what the API takes
	unauthorized               // no key, or an unknown one
	foreignOrigin              // from a page that may not post
	notFound                   // no such path
	badMethod                  // the path is there, but not for this method
	slowRequest                // it did not come within PUBLISHER_READ_TIMEOUT
	headTooLarge               // its line and header fields
	bodyTooLarge               // above PUBLISHER_MAX_BODY
	tooManyItems               // above PUBLISHER_MAX_ITEMS
	payloadTooLarge            // above PUBLISHER_MAX_PAYLOAD
	nameTooLong                // the bridge would refuse the channel's name
	reservedName               // the bridge mirrors no such channel
	rateLimit                  // above PUBLISHER_RATE
	redisAway                  // Redis does not answer
	redisRefused               // Redis answers with an error
	natsAway                   // NATS does not answer; only revoking needs it
	whys                       // how many there are
)

func (w why) String() string {
	return [whys]string{"bad-request", "unauthorized", "foreign-origin", "not-found", "bad-method", "slow-request",
		"head-too-large", "body-too-large", "too-many-items", "payload-too-large", "name-too-long", "reserved-name",
		"rate", "redis-away", "redis-refused", "nats-away"}[w]
}

// status is what a request that is refused as a whole is answered with.
func (w why) status() int {
	return [whys]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestTimeout,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge,
		http.StatusBadRequest, http.StatusBadRequest,
		http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusServiceUnavailable}[w]
}

// refusal is why something was not published, in words for whoever asked.
type refusal struct {
	why  why
	text string
	// uncertain: it was sent, and nobody knows whether Redis has published it.
	uncertain bool
	after     time.Duration // when to try again, 0: no need to say
}

func (r *refusal) Error() string { return r.text }

func bad(format string, args ...any) *refusal {
	return &refusal{why: badRequest, text: fmt.Sprintf(format, args...)}
}
