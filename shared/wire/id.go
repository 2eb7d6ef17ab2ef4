package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// ID is the id of an event on the wire to browsers, `<epoch>-<sequence>`: the
// sequence is the stream's, one total order over all channels, and the epoch
// names the life of the stream that it belongs to. Its letters keep a
// cross-origin EventSource from needing a preflight (at most 128 bytes, none
// outside A-Z a-z 0-9 and "-_.~").
type ID struct {
	Epoch string
	Seq   uint64
}

// MaxEpoch bounds an epoch's length in bytes.
const MaxEpoch = 32

// Append writes the id without allocating when dst has room.
func (id ID) Append(dst []byte) []byte {
	dst = append(dst, id.Epoch...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, id.Seq, 10)
}

func (id ID) String() string { return string(id.Append(nil)) }

// ParseID is the reverse of Append; it accepts only what Append can write.
func ParseID(s string) (ID, error) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 || i > MaxEpoch {
		return ID{}, fmt.Errorf("event id: want <epoch>-<sequence> with an epoch of 1 to %d bytes", MaxEpoch)
	}
	if !ValidEpoch(s[:i]) {
		return ID{}, fmt.Errorf("event id: the epoch has a byte other than a letter or digit")
	}
	digits := s[i+1:]
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || (len(digits) > 1 && digits[0] == '0') || digits[0] == '+' {
		return ID{}, fmt.Errorf("event id: the sequence is not a canonical number")
	}
	return ID{Epoch: s[:i], Seq: seq}, nil
}

// ValidEpoch tells whether e is 1 to MaxEpoch ASCII letters and digits.
func ValidEpoch(e string) bool {
	if e == "" || len(e) > MaxEpoch {
		return false
	}
	for i := range len(e) {
		c := e[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
