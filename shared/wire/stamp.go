package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Stamp is the header that a bridge puts on every message: who wrote it and
// which of the writer's messages it is. With it a writer that lost
// acknowledgements finds out how far the stream took its messages, and another
// bridge finds out that somebody newer leads.
type Stamp struct {
	Term   uint64 // of the leadership; never goes back
	Number uint64 // of the message within the term, from 1
	// Position is how far in Redis' order everything is handled with this message,
	// `<nonce>+<n>`: up to the n-th message after the nonce that the leader
	// published on MarkChannel. Letters, digits and "+" only; "" when the bridge
	// does not know.
	Position string
}

// MaxPosition bounds a position in bytes.
const MaxPosition = 64

// MaxStamp bounds the encoded stamp in bytes: two numbers, two blanks and a
// position. It is part of what a message may not be larger than the server's
// max_payload with.
const MaxStamp = 20 + 1 + 20 + 1 + MaxPosition

// Append writes `<term> <number> <position or ->`.
func (s Stamp) Append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, s.Term, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, s.Number, 10)
	dst = append(dst, ' ')
	if s.Position == "" {
		return append(dst, '-')
	}
	return append(dst, s.Position...)
}

func (s Stamp) String() string { return string(s.Append(nil)) }

// ParseStamp is the reverse of Append.
func ParseStamp(text string) (Stamp, error) {
	f := strings.Split(text, " ")
	if len(f) != 3 || f[2] == "" {
		return Stamp{}, fmt.Errorf("stamp %q: want <term> <number> <position>", text)
	}
	var s Stamp
	var err error
	if s.Term, err = strconv.ParseUint(f[0], 10, 64); err != nil {
		return Stamp{}, fmt.Errorf("stamp %q: the term is not a number", text)
	}
	if s.Number, err = strconv.ParseUint(f[1], 10, 64); err != nil {
		return Stamp{}, fmt.Errorf("stamp %q: the message number is not a number", text)
	}
	if f[2] != "-" {
		s.Position = f[2]
	}
	return s, nil
}
