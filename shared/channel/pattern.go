package channel

import (
	"fmt"
	"strconv"
	"strings"
)

// Pattern names one channel or many. Its text is segments separated by colons,
// like a channel; a segment `*` stands for exactly one segment of any content,
// a last segment `>` for one or more. In other segments a percent sign and two
// hexadecimal digits stand for a byte, so that `*`, `>` and what separates
// patterns in settings can be written.
type Pattern struct {
	subject string // with NATS wildcards, which mean the same
	wild    bool
}

// ParsePattern reads a pattern's text. Errors tell the position, in bytes from
// 1, and what would be right; for a name that is too long they wrap ErrTooLong.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{}
	var subject []byte
	at := 0
	for segment := range strings.SplitSeq(text, ":") {
		if at > 0 {
			subject = append(subject, '.')
		}
		last := at+len(segment) == len(text)
		switch {
		case segment == "*", segment == ">" && last:
			p.wild = true
			subject = append(subject, segment[0])
		case segment == ">":
			return p, fmt.Errorf("pattern at byte %d: > stands for the last segments only; a literal one is written %%3E", at+1)
		default:
			name, err := literal(segment, at)
			if err != nil {
				return p, err
			}
			subject = appendTokens(subject, name)
		}
		at += len(segment) + 1
	}
	if len(subject) > MaxSubject {
		return p, fmt.Errorf("pattern: %w: %d bytes as a subject, at most %d", ErrTooLong, len(subject), MaxSubject)
	}
	p.subject = string(subject)
	return p, nil
}

// literal undoes the percent-encoding of a segment that begins at byte at.
func literal(segment string, at int) (string, error) {
	if !strings.ContainsAny(segment, "%*>") {
		return segment, nil
	}
	var b []byte
	for i := 0; i < len(segment); i++ {
		switch c := segment[i]; c {
		case '*', '>':
			return "", fmt.Errorf("pattern at byte %d: %c stands for whole segments only; a literal one is written %%%02X", at+i+1, c, c)
		case '%':
			d, ok := unhex(segment, i+1)
			if !ok {
				return "", fmt.Errorf("pattern at byte %d: %% is followed by two hexadecimal digits; a literal one is written %%25", at+i+1)
			}
			if d == ':' {
				return "", fmt.Errorf("pattern at byte %d: %%3A: a colon cannot be part of a segment", at+i+1)
			}
			b = append(b, d)
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b), nil
}

// unhex reads two hexadecimal digits of either case.
func unhex(s string, i int) (byte, bool) {
	if i+2 > len(s) {
		return 0, false
	}
	n, err := strconv.ParseUint(s[i:i+2], 16, 8)
	return byte(n), err == nil
}

// Exact is the pattern that matches one channel. The error wraps ErrTooLong.
func Exact(channel string) (Pattern, error) {
	s, err := Subject(channel)
	return Pattern{subject: s}, err
}

// String is the pattern's text in the one form that all equal patterns share.
func (p Pattern) String() string {
	var b []byte
	for i, token := range strings.Split(p.subject, ".") {
		if i > 0 {
			b = append(b, ':')
		}
		if token == "%" {
			continue
		}
		for k := range len(token) {
			// These separate patterns and options in settings.
			switch c := token[k]; c {
			case ';', ',', '=':
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			default:
				b = append(b, c)
			}
		}
	}
	return string(b)
}

// Subject is what to subscribe to, below a prefix, for exactly these channels
// (and, with a wildcard in the first place, the system's own subjects).
func (p Pattern) Subject() string { return p.subject }

// Literal tells whether the pattern has no wildcard.
func (p Pattern) Literal() bool { return !p.wild }

// Match tells whether the pattern matches a channel.
func (p Pattern) Match(channel string) bool {
	var buf [256]byte
	s, err := AppendSubject(buf[:0], channel)
	return err == nil && p.MatchSubject(string(s))
}

// MatchSubject is Match for a channel given by its subject. The system's own
// subjects, which begin with a `$`, match no pattern.
func (p Pattern) MatchSubject(subject string) bool {
	if !p.wild {
		return p.subject == subject
	}
	if subject == "" || subject[0] == '$' {
		return false
	}
	pattern := p.subject
	for {
		pt, prest, pmore := strings.Cut(pattern, ".")
		if pt == ">" {
			return true
		}
		st, srest, smore := strings.Cut(subject, ".")
		if pt != "*" && pt != st || pmore != smore {
			return false
		}
		if !pmore {
			return true
		}
		pattern, subject = prest, srest
	}
}

// Overlaps tells whether there is a channel that both patterns match.
func (p Pattern) Overlaps(q Pattern) bool {
	a, b := p.subject, q.subject
	for {
		at, arest, amore := strings.Cut(a, ".")
		bt, brest, bmore := strings.Cut(b, ".")
		if at == ">" || bt == ">" {
			return true
		}
		if at != "*" && bt != "*" && at != bt || amore != bmore {
			return false
		}
		if !amore {
			return true
		}
		a, b = arest, brest
	}
}

// Covers tells whether the pattern matches every channel that q matches.
func (p Pattern) Covers(q Pattern) bool {
	a, b := p.subject, q.subject
	for {
		at, arest, amore := strings.Cut(a, ".")
		if at == ">" {
			return true
		}
		bt, brest, bmore := strings.Cut(b, ".")
		if bt == ">" || at != "*" && at != bt || amore != bmore {
			return false
		}
		if !amore {
			return true
		}
		a, b = arest, brest
	}
}
