// Package event turns a payload published in Redis into the event that a
// browser gets, and back: which part is the event's name, which its data, and
// what cannot travel as text.
package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// Format says how payloads of a route are read.
type Format uint8

const (
	// Auto takes a JSON object with a string `event` and a `data`, or with a
	// `message` and `criteria`, as an envelope, anything else as the data of an
	// unnamed event.
	Auto Format = iota
	// Raw takes every payload as the data of an unnamed event.
	Raw
	// Enveloped refuses what is not an envelope.
	Enveloped
)

func (f Format) String() string { return [...]string{"auto", "raw", "envelope"}[f] }

// ErrNotEnvelope is returned under Enveloped for any other payload.
var ErrNotEnvelope = errors.New("payload is not an envelope: want a JSON object with a string \"event\" and a \"data\"")

// BinaryName is the name of an event whose data is base64, because the payload
// was not UTF-8.
const BinaryName = "binary"

// Event is what one message becomes on the stream.
type Event struct {
	Name   string // "" for an unnamed event
	Data   []byte // text in UTF-8; line breaks are the encoder's business
	Binary bool   // Data is base64 of the payload
	// Criteria is the envelope's `criteria` as it came, nil without one.
	Criteria json.RawMessage
}

// messageKey and criteriaKey are those of the other form that has criteria: a `message`,
// which becomes the data of an unnamed event.
var messageKey, criteriaKey = []byte(`"message"`), []byte(`"criteria"`)

// unreadable stands for the criteria of what was to be an envelope for some clients, and
// is none: whom it is for is not known, so nobody is to get it.
var unreadable = json.RawMessage("[]")

// forSome tells whether a payload may be an envelope for some clients.
func forSome(payload []byte) bool {
	return bytes.Contains(payload, criteriaKey) && (bytes.Contains(payload, eventKey) || bytes.Contains(payload, messageKey))
}

// isObject tells whether it begins as a JSON object does.
func isObject(payload []byte) bool {
	payload = bytes.TrimLeft(payload, " \t\r\n")
	return len(payload) > 0 && payload[0] == '{'
}

// envelopeKeys must all stand in a payload for it to be an envelope: looking
// for them is far cheaper than parsing. (A publisher that escapes letters of
// the keys is not recognised; none does.)
var eventKey, dataKey = []byte(`"event"`), []byte(`"data"`)

// Parse reads a payload. Data may share memory with it.
func Parse(payload []byte, f Format) (Event, error) {
	if !utf8.Valid(payload) {
		if f == Enveloped {
			return Event{}, ErrNotEnvelope
		}
		if f == Auto && isObject(payload) && forSome(payload) {
			return Event{Data: payload, Binary: true, Criteria: unreadable}, nil
		}
		b := make([]byte, base64.StdEncoding.EncodedLen(len(payload)))
		base64.StdEncoding.Encode(b, payload)
		return Event{Name: BinaryName, Data: b, Binary: true}, nil
	}
	if f != Raw {
		if ev, ok := parseEnvelope(payload); ok {
			return ev, nil
		}
		if f == Enveloped {
			return Event{}, ErrNotEnvelope
		}
	}
	return Event{Data: payload}, nil
}

func parseEnvelope(payload []byte) (Event, bool) {
	if !isObject(payload) {
		return Event{}, false
	}
	if !forSome(payload) && !(bytes.Contains(payload, eventKey) && bytes.Contains(payload, dataKey)) {
		return Event{}, false
	}
	// A map, not a struct: encoding/json matches struct fields without regard
	// to case, and {"Event":…} is not an envelope.
	var m map[string]json.RawMessage
	if json.Unmarshal(payload, &m) != nil {
		return Event{}, false
	}
	rawName, data := m["event"], m["data"]
	if message, criteria := m["message"], m["criteria"]; message != nil && criteria != nil && rawName == nil && data == nil {
		if len(m) > 2 { // what else it says is not to be lost
			delete(m, "criteria")
			message, _ = json.Marshal(m) // of what was JSON
		}
		return Event{Data: message, Criteria: criteria}, true
	}
	var name string
	if len(rawName) == 0 || rawName[0] != '"' || data == nil || json.Unmarshal(rawName, &name) != nil || !ValidName(name) {
		// None; but one that was for some only is not for all now.
		closed := m["criteria"] != nil && (rawName != nil || m["message"] != nil)
		return Event{Data: payload, Criteria: unreadable}, closed
	}
	return Event{Name: name, Data: data, Criteria: m["criteria"]}, true
}

// ValidName tells whether an event can have this name: a line break in it
// would end the field and let the rest pose as another one.
func ValidName(name string) bool {
	for i := range len(name) {
		if name[i] == '\n' || name[i] == '\r' {
			return false
		}
	}
	return true
}

// Envelope is the reverse of Parse for a named event: data goes in as JSON when
// it is JSON and as a JSON string otherwise (bytes that are not UTF-8 become
// U+FFFD, as JSON cannot hold them).
func Envelope(name string, data []byte) []byte {
	if !json.Valid(data) {
		data, _ = json.Marshal(string(data)) // strings always marshal
	}
	b, _ := json.Marshal(struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}{name, data})
	return b
}
