// Package channel maps Redis channel names, which are any bytes, to NATS
// subjects, which are not, and back; and it knows the patterns in which clients
// and settings name many channels at once.
//
// The mapping is injective and reversible. A colon separates tokens, as a dot
// does in a subject: `game:room1:p7` becomes `game.room1.p7`. Inside a token
// every byte that NATS gives a meaning to or forbids is percent-encoded with
// upper-case digits: `.`, `*`, `>`, `%`, blanks and control bytes, DEL and all
// bytes from 0x80, and a `$` that begins the token. An empty token is a bare
// `%`. So no channel has a subject with a token that begins with `$`: those are
// the system's own.
package channel

import (
	"errors"
	"fmt"
	"strings"
)

// MaxSubject bounds an encoded channel in bytes: the server closes the whole
// connection on an over-long line, which holds a prefix besides.
const MaxSubject = 1024

// ErrTooLong is wrapped by the errors for names above MaxSubject.
var ErrTooLong = errors.New("channel name is too long")

const (
	keep    = iota // stands for itself
	encode         // always percent-encoded
	leading        // percent-encoded as the first byte of a token
	split          // ends the token
)

// class tells what becomes of each byte of a channel name.
var class = func() (t [256]uint8) {
	for c := range t {
		if c <= 0x20 || c >= 0x7f {
			t[c] = encode
		}
	}
	for _, c := range ".*>%" {
		t[c] = encode
	}
	t['$'] = leading
	t[':'] = split
	return t
}()

const upperHex = "0123456789ABCDEF"

// AppendSubject appends the subject of a channel to dst. It allocates only when
// dst has no room. The error wraps ErrTooLong; dst is then returned as it was.
func AppendSubject(dst []byte, channel string) ([]byte, error) {
	if len(channel) > MaxSubject { // the subject is never shorter
		return dst, fmt.Errorf("%w: %d bytes, at most %d as a subject", ErrTooLong, len(channel), MaxSubject)
	}
	start := len(dst)
	dst = appendTokens(dst, channel)
	if n := len(dst) - start; n > MaxSubject {
		return dst[:start], fmt.Errorf("%w: %d bytes as a subject, at most %d", ErrTooLong, n, MaxSubject)
	}
	return dst, nil
}

func appendTokens(dst []byte, channel string) []byte {
	first := true // of its token
	run := 0      // where the bytes that stand for themselves began
	for i := range len(channel) {
		c := channel[i]
		switch k := class[c]; {
		case k == keep || k == leading && !first:
			first = false
			continue
		case k == split:
			dst = append(dst, channel[run:i]...)
			if first {
				dst = append(dst, '%')
			}
			dst = append(dst, '.')
			first = true
		default:
			dst = append(dst, channel[run:i]...)
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			first = false
		}
		run = i + 1
	}
	dst = append(dst, channel[run:]...)
	if first {
		dst = append(dst, '%')
	}
	return dst
}

// Subject returns the subject of a channel, at most MaxSubject bytes long. The
// error wraps ErrTooLong.
func Subject(channel string) (string, error) {
	b, err := AppendSubject(make([]byte, 0, len(channel)+16), channel)
	return string(b), err
}

// FromSubject is the reverse of Subject. It refuses what Subject cannot have
// written, so that no two subjects mean one channel.
func FromSubject(subject string) (string, error) {
	if len(subject) > MaxSubject {
		return "", fmt.Errorf("subject: %w: %d bytes, at most %d", ErrTooLong, len(subject), MaxSubject)
	}
	if plain(subject) {
		return strings.ReplaceAll(subject, ".", ":"), nil
	}
	b := make([]byte, 0, len(subject))
	first := true
	for i := 0; i < len(subject); i++ {
		c := subject[i]
		switch {
		case c == '.':
			if first {
				return "", badSubject(i, "an empty token is written %")
			}
			b = append(b, ':')
			first = true
			continue
		case c == '%':
			if first && (i+1 == len(subject) || subject[i+1] == '.') {
				first = false // an empty token
				continue
			}
			d, ok := unhexUpper(subject, i+1)
			if !ok {
				return "", badSubject(i, "% is followed by two of 0-9 A-F")
			}
			if k := class[d]; k == keep || k == split || k == leading && !first {
				return "", badSubject(i, "this byte is not encoded here")
			}
			b = append(b, d)
			i += 2
		case class[c] == encode || class[c] == split || class[c] == leading && first:
			return "", badSubject(i, "this byte is encoded here")
		default:
			b = append(b, c)
		}
		first = false
	}
	if first {
		return "", badSubject(len(subject), "an empty token is written %")
	}
	return string(b), nil
}

// plain tells whether nothing in the subject is encoded or wrong: most are so.
func plain(subject string) bool {
	first := true
	for i := range len(subject) {
		switch c := subject[i]; {
		case c == '.':
			if first {
				return false
			}
			first = true
			continue
		case class[c] != keep && (class[c] != leading || first):
			return false
		}
		first = false
	}
	return !first
}

func badSubject(at int, what string) error {
	return fmt.Errorf("subject at byte %d: not canonical: %s", at+1, what)
}

func unhexUpper(s string, i int) (byte, bool) {
	if i+2 > len(s) {
		return 0, false
	}
	hi, lo := strings.IndexByte(upperHex, s[i]), strings.IndexByte(upperHex, s[i+1])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}
