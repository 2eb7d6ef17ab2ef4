package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed page
var page embed.FS

// front stands where a load balancer would: it serves the demo page, gives what is
// to be published to the publisher, and spreads all other requests over the nodes.
type front struct {
	ln    net.Listener
	srv   *http.Server
	mux   *http.ServeMux // the page, and what it can do
	post  http.Handler   // the publisher
	rest  http.Handler   // the nodes
	nodes []string       // host:port
	next  atomic.Uint64
	dial  net.Dialer

	mu      sync.Mutex // guards streams
	streams map[*context.CancelFunc]bool
}

func newFront(ln net.Listener, nodes []string, publisher string, log *slog.Logger) *front {
	f := &front{ln: ln, nodes: nodes, dial: net.Dialer{Timeout: time.Second}, mux: http.NewServeMux(), streams: map[*context.CancelFunc]bool{}}
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	server := http.FileServerFS(files)
	f.mux.Handle("GET /{$}", secured(server))
	f.mux.Handle("GET /demo/", secured(http.StripPrefix("/demo", server)))
	debug := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	f.rest = &httputil.ReverseProxy{
		Rewrite:       rewrite,
		FlushInterval: -1, // each event at once
		Transport:     &http.Transport{DialContext: f.connect, DisableCompression: true, DisableKeepAlives: true},
		ErrorLog:      debug,
		ErrorHandler:  noNode,
	}
	f.post = &httputil.ReverseProxy{
		Rewrite: rewrite,
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return f.dial.DialContext(ctx, network, publisher)
			}},
		ErrorLog:     debug,
		ErrorHandler: noPublisher,
	}
	f.srv = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second, ErrorLog: debug}
	return f
}

// rewrite keeps the Host: by it node and publisher tell pages of their own host from
// others.
func rewrite(r *httputil.ProxyRequest) {
	r.SetURL(&url.URL{Scheme: "http", Host: "behind"})
	r.SetXForwarded()
	r.Out.Host = r.In.Host
}

// ServeHTTP goes by the path as it was sent. A ServeMux would send whoever posts to
// /publish//x to /publish/x, which is another channel.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.EscapedPath(); {
	case path == "/publish" || strings.HasPrefix(path, "/publish/") || path == "/notify" || path == "/broadcast":
		f.post.ServeHTTP(w, r)
	case path == "/" || strings.HasPrefix(path, "/demo/"):
		f.mux.ServeHTTP(w, r)
	default:
		f.stream(w, r)
	}
}

// stream gives a request to a node. Until it is answered in full it can be cut.
func (f *front) stream(w http.ResponseWriter, r *http.Request) {
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	if strings.HasPrefix(r.URL.Path, "/events") {
		f.mu.Lock()
		f.streams[&cut] = true
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.streams, &cut)
		}()
	}
	f.rest.ServeHTTP(w, r.WithContext(ctx))
}

// cut breaks all streams off, in the middle, and tells how many.
func (f *front) cut() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for cut := range f.streams {
		(*cut)()
	}
	return len(f.streams)
}

// secured keeps the page to itself: whatever is published, it loads and runs nothing
// from elsewhere, and no other page frames its buttons.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src data:; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// connect dials the next node that answers.
func (f *front) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	var last error
	start := f.next.Add(1)
	for i := range uint64(len(f.nodes)) {
		c, err := f.dial.DialContext(ctx, network, f.nodes[(start+i)%uint64(len(f.nodes))])
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no node answers: %w", last)
}

// noNode answers when no node did. An EventSource would take an error status
// for final, so a stream gets an empty one that tells it to come back.
func noNode(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the browser left, or the stream was cut
	}
	if r.Header.Get("Accept") == "text/event-stream" {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		fmt.Fprint(w, "retry: 1000\n\n")
		return
	}
	answer(w, http.StatusBadGateway, map[string]any{"error": err.Error()})
}

// noPublisher answers when the publisher did not.
func noPublisher(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		answer(w, http.StatusBadGateway, map[string]any{"success": false, "error": "the publisher does not answer: " + err.Error()})
	}
}

func (f *front) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- f.srv.Serve(f.ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("front: %w", err)
	case <-ctx.Done():
	}
	f.srv.Close() // streams are cut here: nodes that drain slowly are not this command's business
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("front: %w", err)
	}
	return nil
}
