package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// newsTimeout is how long a promotion may take to get around among the
// sentinels: they talk to each other every 2 s.
const newsTimeout = 5 * time.Second

// masterAddr asks one sentinel.
func (h *Home) masterAddr(ctx context.Context, sentinel *redis.Client) (string, error) {
	answer, err := sentinel.Do(ctx, "sentinel", "get-master-addr-by-name", h.place.master).StringSlice()
	switch {
	case errors.Is(err, redis.Nil):
		return "", fmt.Errorf("it knows no master named %q", h.place.master)
	case err != nil && strings.Contains(err.Error(), "unknown command"):
		return "", fmt.Errorf("it is no sentinel: %w", err)
	case err != nil:
		return "", err
	case len(answer) != 2:
		return "", fmt.Errorf("it answers %q", answer)
	}
	return net.JoinHostPort(answer[0], answer[1]), nil
}

// findMaster connects to the master that most sentinels name and that says of
// itself that it is one.
func (h *Home) findMaster(ctx context.Context) (*Server, error) {
	votes, why := h.masterVotes(ctx)
	candidates := slices.SortedFunc(maps.Keys(votes), func(a, b string) int {
		return cmp.Or(votes[b]-votes[a], strings.Compare(a, b)) // the same order for all bridges
	})
	for _, addr := range candidates {
		s, err := h.connect(ctx, addr)
		if err == nil {
			var role string
			if role, err = s.role(ctx); err == nil && role != "slave" {
				return s, nil
			}
			_ = s.Close()
			if err == nil {
				err = fmt.Errorf("redis %s: sentinels name it as master, but it is a replica", addr)
			}
		}
		why = append(why, err)
	}
	return nil, fmt.Errorf("find the master %q: %w", h.place.master, why)
}

// masterVotes counts what the sentinels name, until more than half agree or all
// have been asked.
func (h *Home) masterVotes(ctx context.Context) (votes map[string]int, why reasons) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	votes = map[string]int{}
	sentinels := h.place.addrs
	replies := poll(ctx, h, sentinels, h.masterAddr)
	for range sentinels {
		r := <-replies
		if r.err != nil {
			why = append(why, fmt.Errorf("sentinel %s: %w", r.from, r.err))
			continue
		}
		if votes[r.value]++; votes[r.value] > len(sentinels)/2 {
			break
		}
	}
	return votes, why
}

// checkMaster returns why s must be left, if that is certain.
func (h *Home) checkMaster(ctx context.Context, s *Server) error {
	own := make(chan string, 1)
	go func() {
		role, _ := s.role(ctx) // no answer says nothing about its role
		own <- role
	}()
	sentinels := h.place.addrs
	replies := poll(ctx, h, sentinels, h.masterAddr)
	votes := map[string]int{}
	for waiting := len(sentinels); own != nil || waiting > 0; {
		select {
		case role := <-own:
			if own = nil; role == "slave" {
				return fmt.Errorf("redis %s is no master any more, it is a replica", s.Addr)
			}
		case r := <-replies:
			waiting--
			if r.err != nil {
				break
			}
			if votes[r.value]++; votes[r.value] > len(sentinels)/2 {
				waiting, replies = 0, nil
				if h.moved(ctx, s, r.value) {
					return fmt.Errorf("the sentinels name %s as master, no longer %s", r.value, s.Addr)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// moved tells whether the master is no longer s but the one at addr, which most
// sentinels name.
func (h *Home) moved(ctx context.Context, s *Server, addr string) bool {
	if addr == s.Addr {
		s.doubt = time.Time{}
		return false
	}
	other, err := h.connect(ctx, addr)
	if err != nil {
		// s may have been promoted only now, and the news not be with all sentinels
		// yet; they still name the one that is dead.
		if s.doubt.IsZero() {
			s.doubt = time.Now()
		}
		return time.Since(s.doubt) > newsTimeout
	}
	defer other.Close()
	role, err := other.role(ctx)
	s.doubt = time.Time{}
	// Sentinels may name the same server by host name and by number.
	return err == nil && role != "slave" && (s.ID == "" || other.ID != s.ID)
}
