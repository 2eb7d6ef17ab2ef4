package auth

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// Claims are what a token says of its bearer. Numbers are json.Number, so that
// a long id keeps all its digits.
type Claims map[string]any

// lookup finds a claim by a name nested by dots. A claim whose own name has dots,
// as of those named by a URL, wins over one that is nested.
func (c Claims) lookup(name string) any {
	if v, ok := c[name]; ok {
		return v
	}
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		if inner, ok := c[name[:i]].(map[string]any); ok {
			if v := Claims(inner).lookup(name[i+1:]); v != nil {
				return v
			}
		}
	}
	return nil
}

// Values are the texts of a claim: of an array one for each element, else one.
// What is no text, number or truth value has none, and neither has an empty
// text. ok is false when the claim is not there or has a form that never gives
// a value; an empty array is there.
func (c Claims) Values(name string) (values []string, ok bool) {
	switch v := c.lookup(name).(type) {
	case []any:
		for _, e := range v {
			if text, ok := scalar(e); ok {
				values = append(values, text)
			}
		}
		return values, true
	default:
		text, ok := scalar(v)
		if !ok {
			return nil, false
		}
		return []string{text}, true
	}
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// moment reads a claim that is a time in seconds since 1970. ok is false for any
// other form; a claim that is not there is the zero time.
func (c Claims) moment(name string) (at time.Time, ok bool) {
	v, there := c[name]
	if !there {
		return time.Time{}, true
	}
	n, isNumber := v.(json.Number)
	if !isNumber {
		return time.Time{}, false
	}
	// Out of range it is an infinity, with an error that tells no more.
	f, _ := n.Float64()
	const last = 253402300799 // of the year 9999, far from where times overflow
	f = max(-last, min(last, f))
	seconds, part := math.Modf(f)
	return time.Unix(int64(seconds), int64(part*1e9)), true
}

// has tells whether a claim, a text or an array of texts, has one of the values.
func (c Claims) has(name string, wanted []string) bool {
	list, ok := c[name].([]any)
	if !ok {
		list = []any{c[name]}
	}
	for _, v := range list {
		text, _ := v.(string)
		if text != "" && slices.Contains(wanted, text) {
			return true
		}
	}
	return false
}
