package route

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
)

// SyntaxError says what is wrong in ROUTES and where.
type SyntaxError struct {
	Pos int // byte offset from 0
	Msg string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("at position %d: %s", e.Pos+1, e.Msg) }

func syntax(pos int, format string, args ...any) error {
	return &SyntaxError{pos, fmt.Sprintf(format, args...)}
}

// Parse reads ROUTES: routes separated by semicolons, each a pattern and its
// options separated by blanks. Empty routes are passed over. Errors are
// *SyntaxError.
func Parse(s string) (*Table, error) {
	t := &Table{}
	at := 0
	for text := range strings.SplitSeq(s, ";") {
		r, err := parseRoute(text, at)
		if err != nil {
			return nil, err
		}
		if r != nil {
			for i := range t.routes {
				if t.routes[i].Pattern.Covers(r.Pattern) {
					return nil, syntax(at+indent(text), "route %q is never used: %q before it matches all its channels", r.Pattern, t.routes[i].Pattern)
				}
			}
			t.routes = append(t.routes, *r)
		}
		at += len(text) + 1
	}
	t.hash = hashOf(t.String())
	return t, nil
}

const blanks = " \t\r\n"

// indent is how many blanks the text begins with.
func indent(text string) int { return len(text) - len(strings.TrimLeft(text, blanks)) }

// parseRoute reads one route that stands at byte at; nil for an empty one.
func parseRoute(text string, at int) (*Route, error) {
	var r *Route
	seen := map[string]bool{}
	for {
		skip := indent(text)
		at, text = at+skip, text[skip:]
		if text == "" {
			break
		}
		word := text
		if i := strings.IndexAny(text, blanks); i >= 0 {
			word = text[:i]
		}
		if r == nil {
			p, err := channel.ParsePattern(word)
			if err != nil {
				return nil, syntax(at, "%v", err)
			}
			if strings.ContainsAny(word, "=,") {
				return nil, syntax(at, "%q: a route begins with a pattern, in which = and , are written %%3D and %%2C", word)
			}
			fresh := defaultRoute
			fresh.Pattern, r = p, &fresh
		} else if err := r.option(word, at, seen); err != nil {
			return nil, err
		}
		at, text = at+len(word), text[len(word):]
	}
	if r != nil && r.Initial > 0 {
		switch {
		case r.History.Off:
			return nil, syntax(at, "route %q: initial needs history, which is off", r.Pattern)
		case r.Initial > r.History.Count:
			return nil, syntax(at, "route %q: initial=%d is more than the %d events that are kept", r.Pattern, r.Initial, r.History.Count)
		}
	}
	return r, nil
}

// option reads one name=value that stands at byte at.
func (r *Route) option(word string, at int, seen map[string]bool) error {
	name, value, ok := strings.Cut(word, "=")
	if !ok {
		return syntax(at, "%q: want name=value with history, initial, throttle, priority or format (routes are separated by ;)", word)
	}
	if seen[name] {
		return syntax(at, "%s is there twice", name)
	}
	seen[name] = true
	valueAt := at + len(name) + 1
	switch name {
	case "history":
		h, ok := parseHistory(value)
		if !ok {
			return syntax(valueAt, "history=%s: want off, or <number>/<age> such as 500/5m with 1 to %d events and %s to %s", value, MaxCount, MinAge, MaxAge)
		}
		r.History = h
	case "initial":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > MaxCount {
			return syntax(valueAt, "initial=%s: want a number of events, 0 to %d", value, MaxCount)
		}
		r.Initial = n
	case "throttle":
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Millisecond || d > MaxThrottle {
			return syntax(valueAt, "throttle=%s: want a duration such as 1s, 1ms to %s", value, MaxThrottle)
		}
		r.Throttle = d
	case "priority":
		switch value {
		case "high":
			r.Priority = High
		case "normal":
			r.Priority = Normal
		case "low":
			r.Priority = Low
		default:
			return syntax(valueAt, "priority=%s: want high, normal or low", value)
		}
	case "format":
		switch value {
		case "auto":
			r.Format = event.Auto
		case "raw":
			r.Format = event.Raw
		case "envelope":
			r.Format = event.Enveloped
		default:
			return syntax(valueAt, "format=%s: want auto, raw or envelope", value)
		}
	default:
		return syntax(at, "unknown option %q: want history, initial, throttle, priority or format", name)
	}
	return nil
}

func parseHistory(value string) (History, bool) {
	if value == "off" {
		return History{Off: true}, true
	}
	count, age, ok := strings.Cut(value, "/")
	if !ok {
		return History{}, false
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > MaxCount {
		return History{}, false
	}
	d, err := time.ParseDuration(age)
	if err != nil || d < MinAge || d > MaxAge {
		return History{}, false
	}
	return History{Count: n, Age: d}, true
}
