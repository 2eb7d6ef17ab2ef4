package sseclient

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// DefaultOpenTimeout bounds Open when its context has no earlier deadline.
	DefaultOpenTimeout = 10 * time.Second
	// DefaultWait bounds Stream.Next when its context has no deadline.
	DefaultWait = time.Minute

	statusBody = 4 << 10
)

// Options are the optional parts of a request.
type Options struct {
	// Header is added to the request and wins over what Open sets itself.
	Header http.Header
	// LastEventID is sent as Last-Event-ID unless it is empty.
	LastEventID string
	// Client replaces the private client. Its Timeout must be 0: it would count
	// the whole life of the stream.
	Client *http.Client
	// OpenTimeout bounds the time until the response's head has arrived.
	// Default DefaultOpenTimeout.
	OpenTimeout time.Duration
	// MaxEvent bounds one block, in bytes. Default DefaultMaxEvent.
	MaxEvent int
}

// StatusError is an answer that ends a browser's EventSource for good: a status
// other than 200, or a content type other than text/event-stream.
type StatusError struct {
	Code   int
	Body   []byte // the first 4 KiB
	Header http.Header
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("not an event stream: status %d, content type %q, body %q",
		e.Code, e.Header.Get("Content-Type"), e.Body)
}

// Stream is one open event stream. Next, NextWithin and NextData are for one
// goroutine at a time; Close may be called from any.
type Stream struct {
	header http.Header
	body   io.Closer
	cancel context.CancelFunc
	idle   func()

	// blocks is not buffered: who does not call Next is a slow reader for the
	// server too, as far as the kernel's and net/http's buffers allow.
	blocks chan block
	closed chan struct{}
	pumped chan struct{}
	once   sync.Once

	// Owned by the goroutine that calls Next.
	lastID string
	err    error
}

type block struct {
	event Event
	err   error
}

// Open sends the request and waits for the head of the answer. ctx and
// Options.OpenTimeout bound only that; the stream then lives until Close. An
// answer that is not an event stream is a *StatusError. Redirects are followed.
func Open(ctx context.Context, url string, o Options) (*Stream, error) {
	timeout := o.OpenTimeout
	if timeout <= 0 {
		timeout = DefaultOpenTimeout
	}
	opening, opened := context.WithTimeout(ctx, timeout)
	defer opened()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	late := context.AfterFunc(opening, cancel)

	client, idle := o.Client, func() {}
	if client == nil {
		// A transport of its own, so that no two streams share a connection.
		// Not DisableKeepAlives: that would send "Connection: close", which no
		// browser does and which servers treat differently.
		t := &http.Transport{DisableCompression: true}
		client, idle = &http.Client{Transport: t}, t.CloseIdleConnections
	}
	s := &Stream{cancel: cancel, idle: idle, lastID: o.LastEventID,
		blocks: make(chan block), closed: make(chan struct{}), pumped: make(chan struct{})}

	req, err := newRequest(life, url, o)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		idle()
		if opening.Err() != nil {
			err = opening.Err()
		}
		return nil, fmt.Errorf("open %s: %w", req.URL.Redacted(), err)
	}
	s.body, s.header = resp.Body, resp.Header
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || mediaType != "text/event-stream" {
		// Still within the opening time: a body may never end.
		text, _ := io.ReadAll(io.LimitReader(resp.Body, statusBody))
		late()
		close(s.pumped)
		s.Close()
		return nil, fmt.Errorf("open %s: %w", req.URL.Redacted(),
			&StatusError{Code: resp.StatusCode, Body: text, Header: resp.Header})
	}
	if !late() {
		close(s.pumped)
		s.Close()
		return nil, fmt.Errorf("open %s: %w", req.URL.Redacted(), opening.Err())
	}
	r := NewReader(resp.Body)
	r.MaxEvent = o.MaxEvent
	go s.pump(r)
	return s, nil
}

func newRequest(ctx context.Context, url string, o Options) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-store")
	if o.LastEventID != "" {
		req.Header.Set("Last-Event-ID", o.LastEventID)
	}
	for name, values := range o.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := o.Header.Get("Host"); host != "" {
		req.Host = host // net/http ignores it among the headers
	}
	return req, nil
}

// pump exists because a read of an HTTP body has no deadline: given up, it
// would cost the connection. So this goroutine waits, and Next can give up.
func (s *Stream) pump(r *Reader) {
	defer close(s.pumped)
	for {
		e, err := r.Next()
		select {
		case s.blocks <- block{e, err}:
		case <-s.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// Header is the head of the answer.
func (s *Stream) Header() http.Header { return s.header }

// LastEventID is the position after the events handed out so far. As in a
// browser it starts as the one the stream was opened with.
func (s *Stream) LastEventID() string { return s.lastID }

// Next returns the next block, whether or not a browser would dispatch it. It
// waits until ctx ends, for DefaultWait if ctx has no deadline; running out of
// time harms nothing, the next call goes on. io.EOF is the clean end of the
// stream, net.ErrClosed comes after Close; all errors but ctx's are final.
func (s *Stream) Next(ctx context.Context) (Event, error) {
	if s.err != nil {
		return Event{}, s.err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultWait)
		defer cancel()
	}
	select {
	case <-s.closed:
		s.err = net.ErrClosed
		return Event{}, s.err
	default:
	}
	select {
	case b := <-s.blocks:
		s.err = b.err
		if b.event.HasID {
			s.lastID = b.event.ID
		}
		return b.event, b.err
	case <-s.closed:
		s.err = net.ErrClosed
		return Event{}, s.err
	case <-ctx.Done():
		return Event{}, fmt.Errorf("wait for an event: %w", ctx.Err())
	}
}

// NextWithin is Next with a timeout.
func (s *Stream) NextWithin(timeout time.Duration) (Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.Next(ctx)
}

// NextData returns the next event that a page would see, skipping comments,
// ids and retry fields without data. The timeout is for the whole wait.
func (s *Stream) NextData(timeout time.Duration) (Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for {
		e, err := s.Next(ctx)
		if err != nil || e.Dispatched() {
			return e, err
		}
	}
}

// Close ends the connection and waits for the stream's goroutine. It may be
// called more than once.
func (s *Stream) Close() {
	s.once.Do(func() {
		close(s.closed)
		s.cancel()
		_ = s.body.Close() // the connection is being thrown away
		s.idle()
	})
	<-s.pumped
}
