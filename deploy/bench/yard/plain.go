// Package yard is what Sluice is measured against: the SSE server that people
// commonly write, and the least that a machine can do.
package yard

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Plain serves streams with net/http as most applications do: one subscription
// to Redis, a goroutine for each client, Fprintf and Flush for each event.
func Plain(ln net.Listener, redisURL string) error {
	o, err := redis.ParseURL(redisURL)
	if err != nil {
		return fmt.Errorf("plain server: %w", err)
	}
	h := &plainHub{clients: map[string]map[chan string]<-chan struct{}{}}
	sub := redis.NewClient(o).PSubscribe(context.Background(), "bench:*")
	if _, err := sub.Receive(context.Background()); err != nil {
		return fmt.Errorf("plain server: %w", err)
	}
	go h.run(sub.Channel(redis.WithChannelSize(1 << 16)))
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	return srv.Serve(ln)
}

type plainHub struct {
	mu      sync.Mutex
	clients map[string]map[chan string]<-chan struct{}
}

func (h *plainHub) run(messages <-chan *redis.Message) {
	for m := range messages {
		h.mu.Lock()
		for c, gone := range h.clients[m.Channel] {
			select {
			case c <- m.Payload:
			case <-gone:
			}
		}
		h.mu.Unlock()
	}
}

func (h *plainHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("channel")
	c := make(chan string, 64)
	h.mu.Lock()
	if h.clients[name] == nil {
		h.clients[name] = map[chan string]<-chan struct{}{}
	}
	h.clients[name][c] = r.Context().Done()
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if delete(h.clients[name], c); len(h.clients[name]) == 0 {
			delete(h.clients, name)
		}
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	fmt.Fprint(w, "event: connected\ndata: {}\n\n")
	flusher := w.(http.Flusher)
	flusher.Flush()
	for {
		select {
		case payload := <-c:
			if _, err := fmt.Fprintf(w, "data: %s\n\n", payload); err != nil {
				return
			}
			flusher.Flush()
		case <-r.Context().Done():
			return
		}
	}
}
