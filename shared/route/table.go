package route

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"sluice/shared/channel"
)

// Table is all routes of an installation. The zero value has only defaults.
// It does not change once parsed.
type Table struct {
	routes []Route
	hash   string
}

// Match returns the channel's route, never nil. The route must not be changed.
func (t *Table) Match(name string) *Route {
	if len(t.routes) == 0 {
		return &defaultRoute
	}
	var buf [256]byte
	s, err := channel.AppendSubject(buf[:0], name)
	if err != nil {
		return &defaultRoute
	}
	return t.MatchSubject(string(s))
}

// MatchSubject is Match for a channel given by its subject.
func (t *Table) MatchSubject(subject string) *Route {
	for i := range t.routes {
		if t.routes[i].Pattern.MatchSubject(subject) {
			return &t.routes[i]
		}
	}
	return &defaultRoute
}

// Any tells whether f holds for the route of any channel that the pattern
// might match. Routes that only an earlier one keeps from matching count, too.
func (t *Table) Any(p channel.Pattern, f func(*Route) bool) bool {
	for i := range t.routes {
		if t.routes[i].Pattern.Overlaps(p) && f(&t.routes[i]) {
			return true
		}
	}
	return false
}

// All tells whether f holds for the route of every channel that the pattern
// matches. It may be false where only several routes together match all of them.
func (t *Table) All(p channel.Pattern, f func(*Route) bool) bool {
	for i := range t.routes {
		r := &t.routes[i]
		if !r.Pattern.Overlaps(p) {
			continue
		}
		if !f(r) {
			return false
		}
		if r.Pattern.Covers(p) {
			return true
		}
	}
	return f(&defaultRoute)
}

// MaxCount is the largest number of events that any channel keeps.
func (t *Table) MaxCount() int {
	n := DefaultCount
	for i := range t.routes {
		n = max(n, t.routes[i].History.Count)
	}
	return n
}

// MinCount is the smallest number of events that any channel keeps.
func (t *Table) MinCount() int {
	n := DefaultCount
	for i := range t.routes {
		if h := t.routes[i].History; !h.Off {
			n = min(n, h.Count)
		}
	}
	return n
}

// MaxAge is the longest time that any channel keeps its events.
func (t *Table) MaxAge() time.Duration {
	d := DefaultAge
	for i := range t.routes {
		d = max(d, t.routes[i].History.Age)
	}
	return d
}

// String is the table in the one form that all equal tables share.
func (t *Table) String() string {
	var b strings.Builder
	for i := range t.routes {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(t.routes[i].String())
	}
	return b.String()
}

// Hash is 16 hexadecimal digits, the same for all texts that mean the same.
func (t *Table) Hash() string {
	if t.hash == "" {
		return hashOf("")
	}
	return t.hash
}

func hashOf(text string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash's Write returns no error
	return fmt.Sprintf("%016x", h.Sum64())
}

// Decode parses the value of a setting; it makes Table a field that envconfig
// can fill.
func (t *Table) Decode(value string) error {
	parsed, err := Parse(value)
	if err != nil {
		return err
	}
	*t = *parsed
	return nil
}
