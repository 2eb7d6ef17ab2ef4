package sseclient

import (
	"bytes"
	"math"
	"time"
)

// field takes in one line of the block that is being read.
func (r *Reader) field(line []byte) {
	name, value, colon := bytes.Cut(line, []byte(":"))
	if colon && len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "":
		r.comment = append(append(r.comment, value...), '\n')
	case "data":
		r.event.HasData = true
		r.data = append(append(r.data, value...), '\n')
	case "event":
		r.event.Name = eventName(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.event.ID, r.event.HasID = string(value), true
		}
	case "retry":
		if d, ok := parseRetry(value); ok {
			r.event.Retry, r.event.HasRetry = d, true
			r.retry, r.hasRetry = d, true
		}
	}
}

// eventName avoids an allocation per event for the names that are all over a
// stream of this project.
func eventName(b []byte) string {
	switch string(b) {
	case "message":
		return "message"
	case "gap":
		return "gap"
	case "ping":
		return "ping"
	}
	return string(b)
}

// parseRetry accepts nothing but ASCII digits, at least one: milliseconds.
func parseRetry(b []byte) (time.Duration, bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	var ms int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if ms <= most {
			ms = ms*10 + int64(c-'0')
		}
	}
	if ms > most {
		return math.MaxInt64, len(b) > 0
	}
	return time.Duration(ms) * time.Millisecond, len(b) > 0
}

// finish is called at the blank line: it returns the block and starts the next.
func (r *Reader) finish() Event {
	e := r.event
	if len(r.data) > 0 {
		e.Data = string(r.data[:len(r.data)-1])
	}
	if len(r.comment) > 0 {
		e.Comment = string(r.comment[:len(r.comment)-1])
	}
	if e.HasID {
		r.lastID = e.ID
	}
	r.event, r.lines, r.size = Event{}, 0, 0
	r.line, r.data, r.comment = reuse(r.line), reuse(r.data), reuse(r.comment)
	return e
}

func reuse(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}
