package redisconn

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is one Redis server, found by a Home. Its client, a plain one, dials
// only Addr, so that what is subscribed and what is published with it meet at
// this server. A command is tried once, unless the URL has max_retries: a mark
// published twice would name two places. Close closes the client.
type Server struct {
	*redis.Client
	// Addr is host:port as the URL, the sentinels or the Cluster name it, or the
	// path of a socket.
	Addr string
	// ID is the run_id from INFO, which is another one after a restart. Empty if
	// INFO is not allowed.
	ID string

	node  string    // in a Cluster: the node's id
	slots []int     // in a Cluster: what it was found for
	doubt time.Time // since when the sentinels name another that does not answer
}

// connect returns the server at addr once it has answered.
func (h *Home) connect(ctx context.Context, addr string) (*Server, error) {
	s := &Server{Client: redis.NewClient(h.place.options(addr)), Addr: addr}
	if err := h.identify(ctx, s); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("redis %s: %w", addr, err)
	}
	return s, nil
}

func (h *Home) identify(ctx context.Context, s *Server) error {
	if err := s.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	info, err := s.Info(ctx, "server").Result()
	if err != nil {
		if IsAnswer(err) {
			return nil // it may not be asked
		}
		return fmt.Errorf("info: %w", err)
	}
	s.ID = field(info, "run_id")
	if field(info, "redis_mode") == "sentinel" {
		// A subscription would succeed, and never get a message.
		return mistake("it is a sentinel: REDIS_URL needs master_name=…")
	}
	return nil
}

// field returns a value from what INFO answers.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// role is "master" or "slave" by the server's own word, or "" if it may not be
// asked.
func (s *Server) role(ctx context.Context) (string, error) {
	answer, err := s.Do(ctx, "role").Slice()
	if err != nil {
		if IsAnswer(err) {
			return "", nil
		}
		return "", fmt.Errorf("role: %w", err)
	}
	if len(answer) == 0 {
		return "", nil
	}
	role, _ := answer[0].(string)
	return role, nil
}
