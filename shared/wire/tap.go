package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"time"
)

// VerbTap is the verb of a Tap, answered with Tapping.
const VerbTap = "tap"

// TapLease is how long a node taps a channel after it was last asked to.
const TapLease = 5 * time.Second

// Tap asks nodes to say of each message of a channel, for TapLease, when they had it
// and how many clients got it: Tapped on Taps. It is asked again while it is to go on.
type Tap struct {
	ID      string `json:"id"` // letters and digits, made by who asks
	Subject string `json:"subject"`
}

// Tapping is what one node says to it.
type Tapping struct {
	Clients int `json:"clients"` // that the channel reaches now
}

// Tapped is what became of a message on one node, by the node's clock.
type Tapped struct {
	Node   string `json:"node"`
	Seq    uint64 `json:"seq,omitempty"`    // 0 without history
	Hash   string `json:"hash"`             // see TapHash
	Stored string `json:"stored,omitempty"` // RFC 3339, by the stream's clock
	At     int64  `json:"at"`               // when it came; Unix nanoseconds
	// Out is when all clients that keep up had it, 0: it was not given out, see Held.
	Out int64 `json:"out,omitempty"`
	// Held says that it was not given out when it came: throttle= holds it back or has
	// dropped it, or nobody can read it, or something before it is missing.
	Held   bool `json:"held,omitempty"`
	Given  int  `json:"given"`            // clients to which it was written
	Behind int  `json:"behind,omitempty"` // that are behind, and get it later
	Others int  `json:"others,omitempty"` // that it is not for, or that had it before
	// More are clients that were not looked at, as there were too many.
	More int `json:"more,omitempty"`
	// Missed counts messages of which the node could not tell before this one.
	Missed int `json:"missed,omitempty"`
}

var tapID = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// ValidTapID tells whether an id can stand in a subject.
func ValidTapID(id string) bool { return tapID.MatchString(id) }

// Taps is the subject on which nodes tell. It is below Replies, so that no right more
// is needed than for questions.
func (s Stream) Taps(id string) string { return s.Replies(id) + "tap" }

// TapHash is by what a message is known from one hop to the next, with its place among
// those of its channel: 16 hexadecimal digits of the payload's SHA-256.
func TapHash(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:8])
}
