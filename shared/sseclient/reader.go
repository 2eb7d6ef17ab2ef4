package sseclient

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// DefaultMaxEvent is the default bound of one block, in bytes.
const DefaultMaxEvent = 8 << 20

const (
	readBuffer = 32 << 10
	// keepBuffer is the largest scratch buffer kept from one block to the next,
	// so that one huge event does not pin its memory for the connection's life.
	keepBuffer = 256 << 10
)

// ErrTooLarge is returned once a block exceeds Reader.MaxEvent. There is no way
// on from there: the reader returns it for good.
var ErrTooLarge = errors.New("event larger than MaxEvent")

// Reader splits a byte stream into events. It is not for concurrent use.
type Reader struct {
	// MaxEvent bounds the bytes of one block, line ends not counted. Set it
	// before the first Next; zero or less means DefaultMaxEvent.
	MaxEvent int

	src     io.Reader
	buf     []byte
	r, w    int
	pending error // came together with bytes: reported when those are used up
	broken  bool  // MaxEvent was exceeded

	skipLF bool // the last line ended in CR: a LF that comes next belongs to it
	begun  bool // the first line, the only one that may carry a BOM, is over

	// The block being read.
	event   Event
	lines   int
	size    int
	line    []byte // start of a line whose end has not been read yet
	data    []byte
	comment []byte

	lastID   string
	retry    time.Duration
	hasRetry bool
}

// NewReader returns a Reader on src with a buffer of 32 KiB.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, readBuffer)}
}

// LastEventID is the position a browser would reconnect with: the id of the
// last complete block that had one.
func (r *Reader) LastEventID() string { return r.lastID }

// Retry is the last reconnection time seen, also that of a block which never
// was completed: the standard has it take effect at once.
func (r *Reader) Retry() (d time.Duration, ok bool) { return r.retry, r.hasRetry }

// Next returns the next complete block. At the end of the stream it returns
// io.EOF, and an incomplete last block is discarded. ErrTooLarge is final. Any
// other error is the source's own; calling Next again reads on where it
// stopped, which makes read deadlines on the source usable.
func (r *Reader) Next() (Event, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) > 0 {
			r.lines++
			r.field(line)
			continue
		}
		if r.lines > 0 {
			return r.finish(), nil
		}
	}
}

// readLine returns the next line without its end. The bytes are valid until
// the next call.
func (r *Reader) readLine() ([]byte, error) {
	if r.broken {
		return nil, ErrTooLarge
	}
	for {
		if r.skipLF && r.r < r.w {
			r.skipLF = false
			if r.buf[r.r] == '\n' {
				r.r++
			}
		}
		chunk := r.buf[r.r:r.w]
		end := lineEnd(chunk)
		if end < 0 {
			// Set the start of the line aside rather than grow the read buffer:
			// it is then empty whenever it is filled, and never moved.
			r.line = append(r.line, chunk...)
			r.r = r.w
			if r.over(len(r.line)) {
				return nil, ErrTooLarge
			}
			if err := r.fill(); err != nil {
				return nil, err
			}
			continue
		}
		// A CR ends the line at once. Waiting for a possible LF would hold back
		// an event until the next one arrives.
		r.skipLF = chunk[end] == '\r'
		r.r += end + 1
		line := chunk[:end]
		if len(r.line) > 0 {
			r.line = append(r.line, line...)
			line, r.line = r.line, r.line[:0]
		}
		if r.over(len(line)) {
			return nil, ErrTooLarge
		}
		r.size += len(line)
		if !r.begun {
			r.begun = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		return line, nil
	}
}

func (r *Reader) over(n int) bool {
	limit := r.MaxEvent
	if limit <= 0 {
		limit = DefaultMaxEvent
	}
	r.broken = n > limit-r.size
	return r.broken
}

func (r *Reader) fill() error {
	if err := r.pending; err != nil {
		r.pending = nil
		return err
	}
	// A source may return nothing without an error, but not for ever.
	for range 100 {
		n, err := r.src.Read(r.buf)
		r.r, r.w = 0, n
		if n > 0 {
			r.pending = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// lineEnd is the index of the first CR or LF, -1 if there is none.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}
