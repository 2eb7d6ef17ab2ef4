package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Pulse is what the leading bridge writes to the stream a few times a second:
// the stream's epoch, the bridge's sign of life and, by its own sequence, the
// head of the stream: it is stored after everything written before it.
type Pulse struct {
	Epoch  string    `json:"epoch"`
	Term   uint64    `json:"term"`
	Bridge string    `json:"bridge"` // random name of the bridge's run
	Time   time.Time `json:"time"`   // by the bridge's clock
	// Marked says that messages before this one may be stored without having
	// been republished: nodes compare everything they watch with the stream.
	Marked bool `json:"marked,omitempty"`
	// Since is, in a marked pulse, the sequence of the last pulse before it that
	// was known to be stored: what an event id between the two vouches for is
	// uncertain.
	Since uint64 `json:"since,omitempty"`
	// Routes is the hash of the bridge's ROUTES; a node with other ones warns.
	Routes string `json:"routes,omitempty"`
	// Patterns is the hash of what the bridge mirrors, and Redis names the server
	// that it does it from. A position means nothing to a bridge with others.
	Patterns string `json:"patterns,omitempty"`
	Redis    string `json:"redis,omitempty"`
	// Leaving says that the bridge has written all it had and writes no more.
	Leaving bool `json:"leaving,omitempty"`
	// Waited is, in nanoseconds, how long the last mark of this bridge took from its
	// PUBLISH on MarkChannel, through Redis and behind all messages before it, to its
	// turn to be written; 0 if none has had it since the pulse before. With it a node
	// knows how long an event takes from Redis to a client.
	Waited time.Duration `json:"waited,omitempty"`
	// Digest is what was written since the last pulse, see Digest. It follows
	// the JSON as it is.
	Digest []byte `json:"-"`
}

// Encode writes the pulse as one line of JSON, with a digest as further bytes.
func (p Pulse) Encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("encode pulse: %v", err)) // only strings, numbers and a time
	}
	if len(p.Digest) > 0 {
		b = append(append(b, '\n'), p.Digest...)
	}
	return b
}

// ParsePulse is the reverse of Encode. A pulse without a usable epoch is an
// error: ids made from it could not be told from those of another stream.
func ParsePulse(data []byte) (Pulse, error) {
	var p Pulse
	data, p.Digest, _ = bytes.Cut(data, []byte{'\n'})
	if err := json.Unmarshal(data, &p); err != nil {
		return Pulse{}, fmt.Errorf("pulse: %w", err)
	}
	if !ValidEpoch(p.Epoch) {
		return Pulse{}, fmt.Errorf("pulse: epoch %q: want 1 to %d letters and digits", p.Epoch, MaxEpoch)
	}
	return p, nil
}
