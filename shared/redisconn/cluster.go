package redisconn

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// maxVoters is how many masters of a Cluster are asked: views differ only while
// it breaks apart, and a sample shows that. All bridges ask the same.
const maxVoters = 9

// maxHops bounds how often one server of a Cluster may name another.
const maxHops = 4

// layout is who owns which slots, as one server sees it.
type layout []redis.ClusterSlot

// owner returns the slot's master; false if it has none.
func (l layout) owner(slot int) (redis.ClusterNode, bool) {
	for _, r := range l {
		if r.Start <= slot && slot <= r.End && len(r.Nodes) > 0 {
			return r.Nodes[0], true
		}
	}
	return redis.ClusterNode{}, false
}

// elsewhere returns who has a slot for which s was found, empty if s has them
// all. A slot without an owner is no reason to look elsewhere.
func (l layout) elsewhere(s *Server) string {
	for _, slot := range s.slots {
		if o, ok := l.owner(slot); ok && o.ID != s.node {
			return o.Addr
		}
	}
	return ""
}

// askLayout asks the server that c dials.
func askLayout(ctx context.Context, c *redis.Client) (layout, error) {
	//lint:ignore SA1019 go-redis itself asks so, one right less; and CLUSTER SHARDS is not in Redis 6
	l, err := c.ClusterSlots(ctx).Result()
	if err != nil {
		if strings.Contains(err.Error(), "cluster support disabled") {
			return nil, fmt.Errorf("cluster slots: it is not part of a Cluster (without one it is redis://): %w", err)
		}
		return nil, fmt.Errorf("cluster slots: %w", err)
	}
	for _, r := range l {
		for i := range r.Nodes {
			r.Nodes[i].Addr = reachable(r.Nodes[i].Addr, c.Options().Addr)
		}
	}
	return l, nil
}

// reachable is how we reach a server that calls itself addr, told by the one at
// asked: a part that it does not tell, or a loopback address of another machine,
// is as with that one.
func reachable(addr, asked string) string {
	host, port, err := net.SplitHostPort(addr)
	askedHost, askedPort, err2 := net.SplitHostPort(asked)
	if err != nil || err2 != nil {
		return addr
	}
	local := func(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }
	if host == "" || host == "?" || local(host) && !local(askedHost) {
		host = askedHost
	}
	if port == "0" {
		port = askedPort
	}
	return net.JoinHostPort(host, port)
}

// learn takes over who the masters are.
func (h *Home) learn(l layout) {
	byID := map[string]string{}
	for _, r := range l {
		if len(r.Nodes) > 0 {
			byID[r.Nodes[0].ID] = r.Nodes[0].Addr
		}
	}
	ids := slices.Sorted(maps.Keys(byID))
	var known []string
	for _, id := range ids[:min(len(ids), maxVoters)] {
		known = append(known, byID[id])
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = known
	for addr, c := range h.asked {
		if !slices.Contains(known, addr) && !slices.Contains(h.place.addrs, addr) {
			_ = c.Close()
			delete(h.asked, addr)
		}
	}
}

// masters returns a copy of what learn has learned.
func (h *Home) masters() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.known)
}

// layout returns the view that most of those who are known and of the URL's
// servers share, as far as the slot goes.
func (h *Home) layout(ctx context.Context, slot int) (layout, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	voters := slices.Concat(h.place.addrs, h.masters())
	slices.Sort(voters)
	voters = slices.Compact(voters)

	votes, views := map[string]int{}, map[string]layout{}
	best := ""
	var why reasons
	replies := poll(ctx, h, voters, askLayout)
	for range voters {
		r := <-replies
		if r.err != nil {
			why = append(why, fmt.Errorf("redis %s: %w", r.from, r.err))
			continue
		}
		o, ok := r.value.owner(slot)
		if !ok {
			why = append(why, fmt.Errorf("redis %s: nobody owns slot %d", r.from, slot))
			continue
		}
		views[o.ID] = r.value
		if votes[o.ID]++; votes[o.ID] > votes[best] {
			best = o.ID
		}
		if votes[best] > len(voters)/2 {
			break
		}
	}
	if len(views) == 0 {
		return nil, fmt.Errorf("no server of the Cluster tells who owns what: %w", why)
	}
	return views[best], nil
}

// findOwner connects to the master that owns the channel's slot, by its own word
// too.
func (h *Home) findOwner(ctx context.Context) (*Server, error) {
	slot := slotOf(h.channel)
	l, err := h.layout(ctx, slot)
	if err != nil {
		return nil, err
	}
	for range maxHops {
		o, ok := l.owner(slot)
		if !ok {
			return nil, fmt.Errorf("nobody owns slot %d of channel %q", slot, h.channel)
		}
		s, err := h.connect(ctx, o.Addr)
		if err != nil {
			return nil, err
		}
		if l, err = askLayout(ctx, s.Client); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("redis %s: %w", o.Addr, err)
		}
		if own, ok := l.owner(slot); ok && own.ID == o.ID {
			s.node, s.slots = o.ID, []int{slot}
			h.learn(l)
			return s, nil
		}
		_ = s.Close() // and on to the one that it names
	}
	return nil, fmt.Errorf("the servers of the Cluster do not agree on who owns slot %d of channel %q", slot, h.channel)
}

// checkOwner returns why s must be left, if that is certain.
func (h *Home) checkOwner(ctx context.Context, s *Server) error {
	own := make(chan layout, 1)
	go func() {
		l, _ := askLayout(ctx, s.Client) // no answer says nothing about its slots
		own <- l
	}()
	voters := h.masters()
	majority := len(voters)/2 + 1
	voters = slices.DeleteFunc(voters, func(addr string) bool { return addr == s.Addr })
	replies := poll(ctx, h, voters, askLayout)
	votes, content := map[string]int{}, 0
	for waiting := len(voters); own != nil || waiting > 0 && content < majority; {
		select {
		case l := <-own:
			own = nil
			if addr := l.elsewhere(s); addr != "" {
				return fmt.Errorf("redis %s does not own its slots any more: ask %s", s.Addr, addr)
			}
			if l != nil {
				content++
				h.learn(l)
			}
		case r := <-replies:
			waiting--
			addr := r.value.elsewhere(s)
			switch {
			case r.err != nil:
			case addr == "":
				content++
			default:
				if votes[addr]++; votes[addr] >= majority {
					return fmt.Errorf("the Cluster has given slots of redis %s to %s", s.Addr, addr)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
