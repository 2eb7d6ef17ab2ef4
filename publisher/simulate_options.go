package publisher

import (
	"cmp"
	"fmt"
	"time"
)

// What SimulateOptions have when a field is zero.
const (
	DefaultRate = 5.0
	DefaultSize = 3
)

// The largest options that make sense: beyond them a typing error is likelier.
const (
	maxRate  = 1e6
	maxSize  = 100_000
	maxBytes = 16 << 20
)

// SimulateOptions say what is played. The zero value plays everything, small
// and slowly, for ever.
type SimulateOptions struct {
	Scenarios []string      // by name; none, or AllScenarios: all of them
	Rate      float64       // messages per second of each scenario, 0: DefaultRate
	Size      int           // tracks, boards, rooms, users, symbols and so on; 0: DefaultSize
	Bytes     int           // payloads are padded to about this many
	Seed      uint64        // the same seed gives the same messages
	For       time.Duration // ends after this time, 0: with the context
}

// filled has the defaults in place of zeros; the error says which option is
// wrong and what would be right.
func (o SimulateOptions) filled() (SimulateOptions, error) {
	o.Rate, o.Size = cmp.Or(o.Rate, DefaultRate), cmp.Or(o.Size, DefaultSize)
	switch {
	case !(o.Rate > 0 && o.Rate <= maxRate): // written so that NaN is refused too
		return o, fmt.Errorf("rate %v: want more than 0 and at most %.0f messages per second", o.Rate, maxRate)
	case o.Size < 1 || o.Size > maxSize:
		return o, fmt.Errorf("size %d: want 1 to %d", o.Size, maxSize)
	case o.Bytes < 0 || o.Bytes > maxBytes:
		return o, fmt.Errorf("bytes %d: want 0 to %d", o.Bytes, maxBytes)
	case o.For < 0:
		return o, fmt.Errorf("for %s: want a duration above 0, or 0 for no end", o.For)
	}
	return o, nil
}
