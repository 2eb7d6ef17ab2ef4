package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// Mark is a message on GapToken: before it, and after the last event before it,
// messages published in Redis were lost. It is kept in the stream as long as
// events, so that clients which come back later are told, too.
type Mark struct {
	Epoch  string    `json:"epoch"`
	Term   uint64    `json:"term"`
	Reason string    `json:"reason"` // GapUpstream or GapDropped
	Time   time.Time `json:"time"`   // by the bridge's clock
	// Subjects that lost something; none means that any may have.
	Subjects []string `json:"subjects,omitempty"`
}

// Reasons of gaps that begin before the stream.
const (
	GapUpstream = "upstream" // the link to Redis was down, or nobody listened
	GapDropped  = "dropped"  // refused or dropped by the bridge
)

// Encode writes the mark as JSON.
func (m Mark) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode mark: %v", err)) // only strings, numbers and a time
	}
	return b
}

// ParseMark is the reverse of Encode.
func ParseMark(data []byte) (Mark, error) {
	var m Mark
	if err := json.Unmarshal(data, &m); err != nil {
		return Mark{}, fmt.Errorf("gap mark: %w", err)
	}
	if !ValidEpoch(m.Epoch) {
		return Mark{}, fmt.Errorf("gap mark: epoch %q: want 1 to %d letters and digits", m.Epoch, MaxEpoch)
	}
	if m.Reason != GapUpstream && m.Reason != GapDropped {
		return Mark{}, fmt.Errorf("gap mark: reason %q: want %s or %s", m.Reason, GapUpstream, GapDropped)
	}
	return m, nil
}
