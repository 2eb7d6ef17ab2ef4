package embedded

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Redis is an in-process stand-in for a Redis server. It is not a Redis: see
// the package's documentation for the differences. Its methods are not for
// concurrent use.
type Redis struct {
	mini    *miniredis.Miniredis
	sockets *server.Server
	addr    string
}

// StartRedis starts one on addr, "127.0.0.1:0" for a free port. A taken port is
// an error.
func StartRedis(addr string) (*Redis, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	return &Redis{mini: m, sockets: m.Server(), addr: m.Addr()}, nil
}

// Addr is the host:port that it listens on. It outlives Close.
func (r *Redis) Addr() string { return r.addr }

// URL is the redis:// URL of Addr.
func (r *Redis) URL() string { return "redis://" + r.addr }

// Close ends all connections and waits for them. It may be called twice.
func (r *Redis) Close() {
	// miniredis' own Close takes the lock that a PUBLISH to a stuck subscriber
	// holds, for ever. Closing the sockets beside it sets that PUBLISH free.
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.sockets.Close()
	}()
	r.mini.Close()
	<-done
}

// Stop is Close, for what takes any RedisServer.
func (r *Redis) Stop() error {
	r.Close()
	return nil
}

// Restart closes it, if it runs, and starts it on the same port, with its data.
func (r *Redis) Restart() error {
	r.Close()
	if err := r.mini.StartAddr(r.addr); err != nil {
		return fmt.Errorf("embedded redis: %w", err)
	}
	r.sockets = r.mini.Server()
	return nil
}
