package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"sluice/shared/event"
)

// post is one message that somebody asks to publish.
type post struct {
	message
	criteria json.RawMessage // whom it is for, nil: everybody
}

// The fields of messages in JSON.
const (
	channelField  = "channel"
	eventField    = "event"
	dataField     = "data"
	criteriaField = "criteria"
)

// readItem reads one of the messages of POST /publish. With an event's name or
// criteria it is published as an envelope; otherwise its data is the payload: the
// text of a string, anything else as it is written.
func readItem(raw json.RawMessage) (post, *refusal) {
	f, r := readFields(raw, channelField, eventField, dataField, criteriaField)
	if r != nil {
		return post{}, r
	}
	name, r := f.text(channelField)
	if r != nil {
		return post{}, r
	}
	if f.named() || f.has(criteriaField) {
		return f.envelope(name, !f.named())
	}
	data, r := f.data()
	if r != nil {
		return post{}, r
	}
	if data[0] == '"' {
		text, r := f.text(dataField)
		return post{message: message{name, []byte(text)}}, r
	}
	return post{message: message{name, data}}, nil
}

// readNotice reads the body of POST /notify.
func (p *places) readNotice(body []byte) (post, *refusal) {
	f, r := readFields(body, channelField, clientName, groupName, eventField, dataField, criteriaField)
	if r != nil {
		return post{}, r
	}
	var name string
	var where []string
	for _, field := range []string{channelField, clientName, groupName} {
		if f.has(field) {
			where = append(where, field)
		}
	}
	if len(where) != 1 {
		return post{}, bad("want one of channel, clientId and group, got %d of them", len(where))
	}
	value, r := f.text(where[0])
	if r != nil {
		return post{}, r
	}
	switch where[0] {
	case clientName:
		name, r = p.ofClient(value)
	case groupName:
		name, r = p.ofGroup(value)
	default:
		name = value
	}
	if r != nil {
		return post{}, r
	}
	return f.envelope(name, false)
}

// readBroadcast reads the body of POST /broadcast.
func (p *places) readBroadcast(body []byte) (post, *refusal) {
	f, r := readFields(body, eventField, dataField)
	if r != nil {
		return post{}, r
	}
	return f.envelope(p.everybody, false)
}

// fields are those of a JSON object.
type fields struct{ all map[string]json.RawMessage }

// readFields reads an object. One that it does not know is refused: a criteria
// with a typing error in its name would reach everybody.
func readFields(raw []byte, known ...string) (fields, *refusal) {
	var f fields
	if r := legible(raw); r != nil {
		return f, r
	}
	// A map, not a struct: encoding/json matches struct fields without regard to
	// case.
	if err := json.Unmarshal(raw, &f.all); err != nil {
		return f, notJSON("an object", err)
	}
	if f.all == nil {
		return f, bad("want a JSON object, got null")
	}
	for field := range f.all {
		if !slices.Contains(known, field) {
			return f, bad("unknown field %.100q: want %s", field, strings.Join(known, ", "))
		}
	}
	return f, nil
}

func legible(raw []byte) *refusal {
	if !utf8.Valid(raw) {
		return bad("the body is not UTF-8, and so no JSON; POST /publish/{channel} takes any bytes")
	}
	return nil
}

func notJSON(want string, err error) *refusal {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return bad("want %s, got %s", want, kind.Value)
	case errors.As(err, &syntax):
		return bad("want JSON, %s: %v at byte %d", want, err, syntax.Offset)
	}
	return bad("want JSON, %s: %v", want, err)
}

func (f fields) has(field string) bool {
	_, ok := f.all[field]
	return ok
}

// text is the value of a field that must be a string.
func (f fields) text(field string) (string, *refusal) {
	raw, ok := f.all[field]
	if !ok {
		return "", bad("%q is missing", field)
	}
	var text string
	if raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return "", bad("%q: want a string, got %.100s", field, raw)
	}
	return text, nil
}

func (f fields) data() (json.RawMessage, *refusal) {
	raw, ok := f.all[dataField]
	if !ok {
		return nil, bad("%q is missing", dataField)
	}
	return raw, nil
}

// named tells whether there is an event's name, or something in its place: null is
// what /poll has for an event without one.
func (f fields) named() bool {
	return f.has(eventField) && string(f.all[eventField]) != "null"
}

// envelope is the message with its event's name, an empty one if it is to have none,
// and perhaps with criteria.
func (f fields) envelope(channel string, nameless bool) (post, *refusal) {
	var name string
	if !nameless {
		var r *refusal
		if name, r = f.text(eventField); r != nil {
			return post{}, r
		}
	}
	if !event.ValidName(name) {
		return post{}, bad("%q: a name has no line break", eventField)
	}
	data, r := f.data()
	if r != nil {
		return post{}, r
	}
	criteria := f.all[criteriaField]
	if criteria != nil {
		// What no node could read would reach nobody.
		if _, err := event.ParseCriteria(criteria); err != nil {
			return post{}, bad("%q: %v", criteriaField, err)
		}
	}
	return post{message{channel, event.Wrap(name, data, criteria)}, criteria}, nil
}

// readList splits the body of POST /publish into its items, at most limit.
func readList(body []byte, limit int) ([]json.RawMessage, *refusal) {
	if r := legible(body); r != nil {
		return nil, r
	}
	const want = "an array of objects"
	d := json.NewDecoder(bytes.NewReader(body))
	switch t, err := d.Token(); {
	case err != nil:
		return nil, notJSON(want, err)
	case t != json.Delim('['):
		return nil, bad("want %s; one message is published by POST /publish/{channel}", want)
	}
	var list []json.RawMessage
	for d.More() {
		// Before it is read: what is too long is not kept in memory.
		if len(list) == limit {
			return nil, &refusal{why: tooManyItems, text: fmt.Sprintf("more than %d messages: want at most so many in one request", limit)}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, notJSON(want, err)
		}
		list = append(list, raw)
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(want, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("want JSON, %s, and nothing after it", want)
	}
	return list, nil
}
