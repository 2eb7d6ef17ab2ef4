// Package sseclient reads server-sent events the way a browser does (WHATWG
// HTML, "Interpreting an event stream"), but shows more than a browser would:
// comments, blocks that carry only an id, and retry fields. Tests and load
// tools use it. [Reader] parses any io.Reader; [Stream] is one HTTP connection
// on which every wait has a deadline.
package sseclient

import "time"

// Event is one block of the stream as sent: all lines up to a blank line.
// Blank lines that follow a blank line make no Event. Text is kept byte for
// byte, so that a test sees when a server sent something that is not UTF-8; a
// browser would show U+FFFD there.
type Event struct {
	// ID is the last id field of the block. HasID tells an empty id, which
	// resets the client's position, from none. An id with U+0000 in it is
	// ignored, as the standard demands.
	ID    string
	HasID bool
	// Name is the last event field. Empty means "message" to a browser.
	Name string
	// Data are the data lines, joined by "\n".
	Data string
	// Retry is the reconnection time that the block asks for; HasRetry tells
	// zero from none. Values beyond the range of a Duration become its maximum.
	Retry    time.Duration
	HasRetry bool
	// Comment are the comment lines without their colon and one leading space,
	// joined by "\n".
	Comment string
	// HasData tells empty data, which is dispatched, from none, which is not.
	HasData bool
}

// Dispatched reports whether a browser would hand this block to the page. A
// block without any data line is not: it can still move the last event id and
// the reconnection time.
func (e Event) Dispatched() bool { return e.HasData }
