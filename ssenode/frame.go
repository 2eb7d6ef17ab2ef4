package ssenode

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/route"
	"sluice/shared/wire"
)

// frame is one event as it goes over the wire, encoded once for all clients of
// a node and immutable afterwards.
type frame struct {
	n       uint64 // the node's own running number: the order in which all loops see frames
	seq     uint64 // in the stream, 0 without history
	subject string // after the live prefix; names the channel
	plain   []byte
	wrapped []byte // the form of wrap=1, nil when no client asked for it at the time
	idLen   int    // bytes of the id line at the beginning of both forms
	binary  bool   // the data is base64 of the payload
	old     bool   // something with a higher sequence went out before
	// priority is the channel's, whatever it was subscribed by.
	priority route.Priority
	key      uint64 // see ring
	// criteria tell which clients get it, nil: all.
	criteria *event.Criteria
}

// newFrame encodes ev. An id with an empty epoch is left out.
func newFrame(id wire.ID, ev event.Event, name string, wrap bool) *frame {
	f := &frame{seq: id.Seq, binary: ev.Binary}
	size := len("id: -\n") + len(id.Epoch) + 20 + len("event: \n") + len(ev.Name) +
		len("data: \n\n") + len(ev.Data) + countBreaks(ev.Data)*len("data: ")
	b := make([]byte, 0, size)
	b = appendID(b, id)
	f.idLen = len(b)
	if ev.Name != "" {
		b = append(b, "event: "...)
		b = append(b, ev.Name...)
		b = append(b, '\n')
	}
	f.plain = appendData(b, ev.Data)
	if wrap {
		f.wrapped = wrapped(id, ev, name)
	}
	return f
}

func appendID(b []byte, id wire.ID) []byte {
	if id.Epoch == "" || id.Seq == 0 {
		return b
	}
	b = append(b, "id: "...)
	b = id.Append(b)
	return append(b, '\n')
}

// countBreaks is an upper bound of the lines that data gains.
func countBreaks(data []byte) int {
	return bytes.Count(data, []byte{'\n'}) + bytes.Count(data, []byte{'\r'})
}

// appendData writes data as `data:` lines and the blank line that ends the
// event. Each of \r\n, \n and \r ends a line for a browser, so each starts a
// new `data:` line here; empty data still has one line, or no page would hear
// of the event. The blank after the colon keeps a leading blank of the data.
func appendData(b, data []byte) []byte {
	// Where the next of each kind stands, len(data) for none: looked up again
	// only once it was passed, so that the work stays linear whatever the mix.
	lf, cr := index(data, 0, '\n'), index(data, 0, '\r')
	for from := 0; ; {
		end := min(lf, cr)
		b = append(b, "data: "...)
		b = append(b, data[from:end]...)
		b = append(b, '\n')
		if end == len(data) {
			return append(b, '\n')
		}
		from = end + 1
		if end == cr {
			if lf == from && from < len(data) { // \r\n is one break
				from++
				lf = index(data, from, '\n')
			}
			cr = index(data, from, '\r')
		} else {
			lf = index(data, from, '\n')
		}
	}
}

// index is where c stands in data at or after from, len(data) if nowhere.
func index(data []byte, from int, c byte) int {
	if i := bytes.IndexByte(data[from:], c); i >= 0 {
		return from + i
	}
	return len(data)
}

// envelope is the data of an event under wrap=1, so that a page with many
// channels on one connection can tell them apart.
type envelope struct {
	Channel string          `json:"channel"`
	Event   *string         `json:"event"`
	Data    json.RawMessage `json:"data"`
}

// wrapped encodes the form of wrap=1: unnamed, the event's data embedded when
// it is JSON and as a string when it is other text (base64, named "binary",
// for what was not text at all).
func wrapped(id wire.ID, ev event.Event, name string) []byte {
	e := envelope{Channel: printable(name), Data: ev.Data}
	if ev.Name != "" {
		e.Event = &ev.Name
	}
	if ev.Binary || !json.Valid(ev.Data) {
		e.Data = toJSON(string(ev.Data))
	}
	return appendData(appendID(nil, id), toJSON(e))
}

// event is the event that the frame was made of. (Its kinds of line breaks have
// become one.)
func (f *frame) event() event.Event {
	ev := event.Event{Binary: f.binary}
	for line := range bytes.Lines(f.plain[f.idLen:]) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			ev.Name = string(name)
		} else if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if ev.Data != nil {
				ev.Data = append(ev.Data, '\n')
			}
			ev.Data = append(ev.Data, data...)
		}
	}
	return ev
}

// wrapLate makes the form of wrap=1 from the plain one, for a frame that was
// encoded just before the first client asked for it.
func (f *frame) wrapLate() []byte {
	name, err := channel.FromSubject(f.subject)
	if err != nil {
		return nil // the dispatcher lets only channels through
	}
	return append(bytes.Clone(f.plain[:f.idLen]), wrapped(wire.ID{}, f.event(), name)...)
}

// toJSON marshals v, one of our own structs or a string, on one line and
// without escaping <, > and & as package json does by default.
func toJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // cannot fail for such values
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// printable is a channel's name as it stands in JSON: bytes that are not UTF-8
// are written as %XX, since JSON has no way to hold them.
func printable(channel string) string {
	if utf8.ValidString(channel) {
		return channel
	}
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := 0; i < len(channel); {
		r, n := utf8.DecodeRuneInString(channel[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, '%', hex[channel[i]>>4], hex[channel[i]&15])
		} else {
			b = append(b, channel[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// appendRetry tells a browser how long to wait before it reconnects: base plus
// or minus a quarter, so that clients which lost one node do not come back to
// another all at once.
func appendRetry(b []byte, base time.Duration) []byte {
	ms := int64(base / time.Millisecond)
	ms += rand.Int64N(ms/2+1) - ms/4
	return appendWait(b, time.Duration(ms)*time.Millisecond)
}

// appendWait tells a browser to wait for exactly so long.
func appendWait(b []byte, wait time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, wait.Milliseconds(), 10)
	return append(b, '\n', '\n')
}

// appendControl writes an event of ours: id may be zero, data is marshalled.
func appendControl(b []byte, id wire.ID, name string, data any) []byte {
	b = appendID(b, id)
	b = append(b, "event: "...)
	b = append(b, name...)
	b = append(b, '\n')
	return appendData(b, toJSON(data))
}
