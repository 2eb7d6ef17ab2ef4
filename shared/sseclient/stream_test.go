package sseclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const wait = 5 * time.Second

// serve starts a server whose handler may block until the client is gone or
// the test ends.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func open(t *testing.T, url string, o Options) *Stream {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func eventStream(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "Text/Event-Stream; charset=utf-8")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

func TestStreamRequestLooksLikeABrowsers(t *testing.T) {
	requests := make(chan *http.Request, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("X-Test", "yes")
		eventStream(w, "data:1\n\n")
	})
	s := open(t, url, Options{LastEventID: "e-7", Header: http.Header{"authorization": {"Bearer x"}, "Host": {"sluice.test"}}})
	r := <-requests
	for name, want := range map[string]string{
		"Accept": "text/event-stream", "Last-Event-Id": "e-7", "Authorization": "Bearer x",
		"Cache-Control": "no-store", "Connection": "", "Accept-Encoding": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.Method != "GET" || r.Close || r.Host != "sluice.test" {
		t.Errorf("method %s, close %v, host %s", r.Method, r.Close, r.Host)
	}
	if s.Header().Get("X-Test") != "yes" || s.LastEventID() != "e-7" {
		t.Errorf("header %v, last event id %q", s.Header(), s.LastEventID())
	}
}

func TestStreamNext(t *testing.T) {
	more := make(chan string)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		eventStream(w, ": hello\n\nid:e-1\n\n")
		for {
			select {
			case text, ok := <-more:
				if !ok {
					return
				}
				eventStream(w, text)
			case <-r.Context().Done(): // the test failed: do not hold up its cleanup
				return
			}
		}
	})
	s := open(t, url, Options{})
	if e, err := s.Next(t.Context()); err != nil || e.Comment != "hello" {
		t.Fatalf("%+v, %v", e, err)
	}
	if s.LastEventID() != "" {
		t.Error("the id of a block counts before the block was handed out")
	}
	// The id-only block is skipped, then time runs out, and that harms nothing.
	if e, err := s.NextData(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%+v, %v", e, err)
	}
	if s.LastEventID() != "e-1" {
		t.Errorf("last event id %q", s.LastEventID())
	}
	more <- ":x\n\nid:e-2\nretry:5\nevent:e\ndata:a\ndata:b\n\n"
	want := Event{ID: "e-2", HasID: true, Name: "e", Data: "a\nb", HasData: true, Retry: 5 * time.Millisecond, HasRetry: true}
	if e, err := s.NextData(wait); err != nil || e != want {
		t.Fatalf("%+v, %v, want %+v", e, err, want)
	}
	close(more)
	for range 2 {
		if _, err := s.NextWithin(wait); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestStreamCloseEndsEverything(t *testing.T) {
	gone, canceled := make(chan struct{}), make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		eventStream(w, ":\n\n")
		select {
		case <-canceled:
		case <-r.Context().Done():
		}
		eventStream(w, "data:1\n\ndata:2\n\n")
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel() // bounds the opening only
	if e, err := s.NextWithin(wait); err != nil || e.HasData {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := s.NextWithin(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	close(canceled)
	if e, err := s.NextData(wait); err != nil || e.Data != "1" {
		t.Fatalf("%+v, %v", e, err)
	}
	s.Close()
	s.Close()
	if _, err := s.NextWithin(wait); err != net.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	select {
	case <-gone:
	case <-time.After(wait):
		t.Error("the server did not see the connection end")
	}
}

// A body that has ended leaves a connection that could serve again; ours must
// not stay open behind Close.
func TestStreamCloseLeavesNoIdleConnection(t *testing.T) {
	gone := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		eventStream(w, "data:1\n\n")
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(gone)
		}
	}
	srv.Start()
	defer srv.Close()
	s := open(t, srv.URL, Options{})
	for _, want := range []error{nil, io.EOF} {
		if _, err := s.NextWithin(wait); err != want {
			t.Fatal(err)
		}
	}
	s.Close()
	select {
	case <-gone:
	case <-time.After(wait):
		t.Error("the connection is still open")
	}
}

func TestOpenRefusesWhatEndsAnEventSource(t *testing.T) {
	f := func(code int, contentType string) {
		t.Helper()
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(code)
			if code != http.StatusNoContent {
				_, _ = w.Write(bytes.Repeat([]byte("x"), statusBody+1))
			}
		})
		s, err := Open(t.Context(), url, Options{})
		if s != nil {
			s.Close()
		}
		var status *StatusError
		if !errors.As(err, &status) || status.Code != code || status.Header.Get("Retry-After") != "3" {
			t.Fatalf("%d %s: %v", code, contentType, err)
		}
		if code != http.StatusNoContent && len(status.Body) != statusBody {
			t.Errorf("%d bytes of the body", len(status.Body))
		}
	}
	f(503, "text/event-stream")
	f(429, "application/json")
	f(204, "text/event-stream")
	f(200, "text/plain")
	f(200, "text/event-streams")
	f(200, "")
}

func TestOpenHasADeadline(t *testing.T) {
	// Accepts (the kernel does) and never answers.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	_, err = Open(t.Context(), "http://"+l.Addr().String(), Options{OpenTimeout: 50 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > wait {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Open(ctx, "http://"+l.Addr().String(), Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.Close()
	if _, err = Open(t.Context(), "http://"+l.Addr().String(), Options{}); err == nil {
		t.Error("opened a closed port")
	}
}

// A body that breaks off is not a clean end.
func TestStreamTruncated(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		eventStream(w, "data:1\n\n")
	})
	s := open(t, url, Options{})
	if e, err := s.NextWithin(wait); err != nil || e.Data != "1" {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := s.NextWithin(wait); err != io.ErrUnexpectedEOF {
		t.Errorf("truncated body: %v", err)
	}
}

func TestStreamMaxEvent(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { eventStream(w, "data:123456\n\n") })
	s := open(t, url, Options{MaxEvent: 10})
	if _, err := s.NextWithin(wait); err != ErrTooLarge {
		t.Error(err)
	}
}
