package ssenode

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/shared/channel"
	"sluice/shared/route"
	"sluice/ssenode/auth"
)

// request is what a client asked for: the channels and patterns of one stream.
type request struct {
	identity   *auth.Identity // nil: nobody, or there is no authentication
	attributes auth.Attributes
	clientID   string
	chosen     bool   // the clientID is the client's own choice
	cors       string // lines of the answer's head
	wrap       bool
	channels   []string // as named, without repetitions
	patterns   []string
	want       []channel.Pattern // channels first, then patterns
	// lastEventID is what the client has seen last, "" for nothing.
	lastEventID string
	initial     int           // how many of the last events it wants, -1: what the route says
	timeout     time.Duration // of a poll
}

// badRequest is an error of the client's, with the status that tells it.
type badRequest struct {
	status  int
	text    string
	tooMany bool // channels and patterns
}

func (e *badRequest) Error() string { return e.text }

func bad(format string, args ...any) error {
	return &badRequest{status: http.StatusBadRequest, text: fmt.Sprintf(format, args...)}
}

// tooMany is bad for a request of more channels than there may be.
func tooMany(format string, args ...any) error {
	return &badRequest{status: http.StatusBadRequest, text: fmt.Sprintf(format, args...), tooMany: true}
}

// param is one name=value of a query, decoded, and the value as it was sent.
type param struct{ name, value, raw string }

// parseQuery splits a query string. It is stricter than net/url: a broken
// escape is the client's mistake and not dropped.
func parseQuery(query string) ([]param, error) {
	var list []param
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		k, raw, _ := strings.Cut(part, "=")
		name, err := unescape(k, true)
		if err != nil {
			return nil, bad("query: name %q: %v", k, err)
		}
		value, err := unescape(raw, true)
		if err != nil {
			if name == tokenParam {
				raw = "…"
			}
			return nil, bad("query: %s=%q: %v", name, raw, err)
		}
		list = append(list, param{name, value, raw})
	}
	return list, nil
}

// unescape undoes percent-encoding; in a query a plus is a blank.
func unescape(s string, query bool) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", fmt.Errorf("%% at byte %d is not followed by two hexadecimal digits", i+1)
			}
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case s[i] == '+' && query:
			b = append(b, ' ')
		default:
			b = append(b, s[i])
		}
	}
	return string(b), nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// named reads which channels /events was asked for. path is what follows
// "/events/", as sent, or "" without it.
func (r *request) named(path string, params []param, limit int) error {
	if path != "" {
		name, err := unescape(path, false)
		if err != nil {
			return bad("path: channel %q: %v", path, err)
		}
		r.channels = append(r.channels, name)
	}
	named := path != ""
	for _, p := range params {
		switch p.name {
		case "channel":
			r.channels = append(r.channels, p.value)
		case "channels":
			// At commas before decoding, so that a channel may contain one.
			for raw := range strings.SplitSeq(p.raw, ",") {
				name, _ := unescape(raw, true) // the whole was checked
				r.channels = append(r.channels, name)
			}
		case "pattern":
			r.patterns = append(r.patterns, p.value)
		default:
			continue
		}
		named = true
	}
	if !named {
		return nil // there may be some that come by themselves
	}
	return r.resolve(limit)
}

var errNoChannel = bad("no channel: want /events?channel=NAME, /events?channels=A,B, /events?pattern=PATTERN or /events/NAME")

// also adds channels and patterns that come by themselves. They do not count for what a
// client may name.
func (r *request) also(auto []channel.Pattern) error {
	if err := r.add(auto); err != nil {
		return err
	}
	r.want = nil
	return r.resolve(len(r.channels) + len(r.patterns))
}

// add notes filled templates as channels and patterns.
func (r *request) add(list []channel.Pattern) error {
	for _, p := range list {
		if !p.Literal() {
			r.patterns = append(r.patterns, p.String())
			continue
		}
		name, err := channel.FromSubject(p.Subject())
		if err != nil {
			return bad("channel %q: %v", clip(p.String()), err)
		}
		r.channels = append(r.channels, name)
	}
	return nil
}

// common reads the parameters that every kind of stream has.
func (r *request) common(params []param) error {
	r.initial, r.timeout = -1, pollTime
	for _, p := range params {
		switch p.name {
		case "lastEventId":
			r.lastEventID = p.value
		case "initial":
			n, err := strconv.Atoi(p.value)
			if err != nil || n < 0 || n > route.MaxCount {
				return bad("initial=%q: want a number of events, 0 to %d", clip(p.value), route.MaxCount)
			}
			r.initial = n
		case "timeout":
			var err error
			if r.timeout, err = pollTimeout(p.value); err != nil {
				return err
			}
		case "clientId":
			if !nodeName.MatchString(p.value) {
				return bad("clientId %q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", clip(p.value))
			}
			// A copy: it stays as long as the stream, and must not keep the query, in
			// which a token can be a hundred times as long.
			r.clientID, r.chosen = strings.Clone(p.value), true
		case "wrap":
			switch p.value {
			case "1", "true":
				r.wrap = true
			case "0", "false", "":
			default:
				return bad("wrap=%q: want 1", clip(p.value))
			}
		}
	}
	if r.clientID == "" {
		r.clientID = strings.ToLower(rand.Text()[:20])
		if r.identity != nil && r.identity.Subject != "" {
			// So that its client may come back with it.
			r.clientID = auth.PathSafe(r.identity.Subject) + "." + r.clientID
		}
	}
	return nil
}

// resolve turns names into patterns, leaving out repetitions.
func (r *request) resolve(limit int) error {
	if n := len(r.channels) + len(r.patterns); n > limit {
		return tooMany("%d channels and patterns: at most %d on one connection", n, limit)
	}
	seen := map[string]bool{}
	channels, patterns := r.channels[:0], r.patterns[:0]
	for _, name := range r.channels {
		p, err := channel.Exact(name)
		if err != nil {
			return bad("channel %q: %v", clip(name), err)
		}
		if !seen[p.Subject()] {
			seen[p.Subject()] = true
			channels = append(channels, name)
			r.want = append(r.want, p)
		}
	}
	for _, text := range r.patterns {
		p, err := channel.ParsePattern(text)
		if err != nil {
			return bad("pattern %q: %v", clip(text), err)
		}
		if !seen[p.Subject()] {
			seen[p.Subject()] = true
			patterns = append(patterns, text)
			r.want = append(r.want, p)
		}
	}
	r.channels, r.patterns = channels, patterns
	return nil
}

// overlaps tells whether one channel could match two of the patterns. Two
// different literal ones never do.
func overlaps(want []channel.Pattern) bool {
	for i, p := range want {
		if p.Literal() {
			continue
		}
		for k, q := range want {
			if k != i && p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}

// clip shortens what a client sent for an error message.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
