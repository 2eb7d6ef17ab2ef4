package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Digest collects, between two pulses, which subjects were written to and the
// sequence of the last message of each. A node compares it with what it has:
// that shows the loss of a message after which nothing came on its subject,
// which the chain of sequences cannot show.
type Digest struct {
	last  map[string]uint64
	bytes int
}

// Add notes a message on the subject.
func (d *Digest) Add(subject string, seq uint64) {
	if _, there := d.last[subject]; !there {
		if d.last == nil {
			d.last = map[string]uint64{}
		}
		d.bytes += len(subject) + 2 + binary.MaxVarintLen64/2
	}
	d.last[subject] = seq
}

// Size is about how many bytes Take will return.
func (d *Digest) Size() int { return d.bytes }

// Take encodes the digest and empties it: for each subject its length as a
// varint, its bytes, and the sequence as a varint; nothing for no subject.
func (d *Digest) Take() []byte {
	if len(d.last) == 0 {
		return nil
	}
	b := make([]byte, 0, d.bytes)
	for subject, seq := range d.last {
		b = binary.AppendUvarint(b, uint64(len(subject)))
		b = append(b, subject...)
		b = binary.AppendUvarint(b, seq)
	}
	d.Reset()
	return b
}

// Reset forgets everything.
func (d *Digest) Reset() {
	d.last, d.bytes = nil, 0 // not kept: it may have been a burst's
}

var errDigest = errors.New("digest of subjects is cut short")

// EachInDigest calls f for each subject of an encoded digest. The subject's
// bytes are only valid during the call.
func EachInDigest(b []byte, f func(subject []byte, seq uint64)) error {
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return errDigest
		}
		subject := b[used : used+int(n)]
		b = b[used+int(n):]
		seq, used := binary.Uvarint(b)
		if used <= 0 {
			return fmt.Errorf("%w at %q", errDigest, subject)
		}
		b = b[used:]
		f(subject, seq)
	}
	return nil
}
