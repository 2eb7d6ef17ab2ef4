package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

//go:embed page
var page embed.FS

// front stands where a load balancer would: it serves the demo page and spreads
// all other requests over the nodes.
type front struct {
	ln    net.Listener
	srv   *http.Server
	nodes []string // host:port
	next  atomic.Uint64
	dial  net.Dialer
}

func newFront(ln net.Listener, nodes []string, log *slog.Logger) *front {
	f := &front{ln: ln, nodes: nodes, dial: net.Dialer{Timeout: time.Second}}
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "nodes"}); r.SetXForwarded() },
		FlushInterval: -1, // each event at once
		Transport:     &http.Transport{DialContext: f.connect, DisableCompression: true, DisableKeepAlives: true},
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler:  noNode,
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.FileServerFS(files))
	mux.Handle("GET /demo/", http.StripPrefix("/demo", http.FileServerFS(files)))
	mux.Handle("/", proxy)
	f.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: proxy.ErrorLog}
	return f
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
		return // the browser left
	}
	if r.Header.Get("Accept") == "text/event-stream" {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		fmt.Fprint(w, "retry: 1000\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
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
