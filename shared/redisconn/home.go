package redisconn

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// How long a round of questions to sentinels or to the servers of a Cluster may
// take; all are asked at once.
const (
	findTimeout  = 3 * time.Second
	checkTimeout = time.Second
)

// Home finds the one server at which the bridges subscribe, so that they all get
// the same order: the URL's server, the master that most sentinels name, or the
// owner of Options.Channel's slot in a Cluster.
//
// What a server says of itself is believed at once when it says that it is no
// longer the right one. What others say of it counts only when more than half of
// them agree: one that answers oddly, or not at all, moves nobody.
//
// Its methods may be called from any goroutine, Check for one server at a time.
type Home struct {
	place   *place
	channel string

	mu     sync.Mutex               // guards the following fields
	asked  map[string]*redis.Client // by address: sentinels, or servers of the Cluster
	known  []string                 // the masters of the Cluster, at most maxVoters
	closed bool

	asking sync.WaitGroup
}

// OpenHome reads the URL; it does not connect. Its errors are those of Open.
func OpenHome(url string, o Options) (*Home, error) {
	p, err := settle(url, o, -1)
	if err != nil {
		return nil, err
	}
	if p.cluster && o.Channel == "" {
		return nil, fmt.Errorf("REDIS_URL=%q: a Cluster needs Options.Channel", Redact(url))
	}
	return &Home{place: p, channel: o.Channel, asked: map[string]*redis.Client{}}, nil
}

// Cluster tells whether the URL is that of a Cluster.
func (h *Home) Cluster() bool { return h.place.cluster }

// Find connects to the right server; the caller closes it. An error names the
// servers that were asked, and what they said. Who is right is asked for 3 s at
// most; to connect takes what the URL's time limits allow, or until ctx ends.
func (h *Home) Find(ctx context.Context) (*Server, error) {
	switch {
	case h.place.cluster:
		return h.findOwner(ctx)
	case h.place.master != "":
		return h.findMaster(ctx)
	default:
		return h.connect(ctx, h.place.server.Addr)
	}
}

// Check returns nil while s is the right server, and also when nobody can tell;
// otherwise an error that says why s must be left: it was demoted, the sentinels
// name another, a slot was moved. It is cheap enough for once a second, but may
// take a second.
func (h *Home) Check(ctx context.Context, s *Server) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	switch {
	case h.place.cluster:
		return h.checkOwner(ctx, s)
	case h.place.master != "":
		return h.checkMaster(ctx, s)
	default:
		return nil
	}
}

// Close ends the connections over which Home asks, not those of a Server.
func (h *Home) Close() error {
	h.mu.Lock()
	h.closed = true
	var first error
	for addr, c := range h.asked {
		if err := c.Close(); err != nil && first == nil {
			first = fmt.Errorf("close %s: %w", addr, err)
		}
	}
	h.asked = nil
	h.mu.Unlock()
	h.asking.Wait()
	return first
}

// voter returns the client for asking addr. Without an error, asking.Done must
// follow.
func (h *Home) voter(addr string) (*redis.Client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, redis.ErrClosed
	}
	c := h.asked[addr]
	if c == nil {
		o := h.place.options(addr)
		if !h.place.cluster {
			o = h.place.sentinel(addr)
		}
		o.MinIdleConns = 0
		c = redis.NewClient(o)
		h.asked[addr] = c
	}
	h.asking.Add(1) // here, because Close may wait as soon as the lock is free
	return c, nil
}

// reply is what one of those asked has said.
type reply[T any] struct {
	from  string
	value T
	err   error
}

// poll asks all of addrs at once. There is one reply for each of them, when ctx
// ends at the latest; the caller need not wait for all.
func poll[T any](ctx context.Context, h *Home, addrs []string, ask func(context.Context, *redis.Client) (T, error)) <-chan reply[T] {
	replies := make(chan reply[T], len(addrs))
	for _, addr := range addrs {
		c, err := h.voter(addr)
		if err != nil {
			replies <- reply[T]{from: addr, err: err}
			continue
		}
		go func() {
			defer h.asking.Done()
			value, err := ask(ctx, c)
			replies <- reply[T]{addr, value, err}
		}()
	}
	return replies
}

// reasons are errors of several servers in one line.
type reasons []error

func (r reasons) Error() string {
	var b strings.Builder
	for i, err := range r {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (r reasons) Unwrap() []error { return r }
