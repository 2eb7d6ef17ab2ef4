package redisconn

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Shard is what is subscribed at one master of a Cluster.
type Shard struct {
	Server *Server
	// Slots are the names that it owns, those of one slot together: one SSUBSCRIBE
	// takes no more. When a slot moves away, Redis ends the subscription with a
	// confirmation of the kind "sunsubscribe"; a name that is not there any more is
	// refused with MOVED.
	Slots [][]string
}

// Shards connects to the masters that own the names, and returns what to
// SSUBSCRIBE at each, in the order of their addresses; nil without a Cluster.
// The caller closes every Server; Check tells when one has lost a slot of its
// names.
func (h *Home) Shards(ctx context.Context, names []string) (shards []Shard, err error) {
	if !h.place.cluster || len(names) == 0 {
		return nil, nil
	}
	l, err := h.layout(ctx, slotOf(names[0]))
	if err != nil {
		return nil, err
	}
	bySlot, owners := map[int][]string{}, map[string]redis.ClusterNode{}
	slots := map[string][]int{} // by address
	for _, name := range names {
		slot := slotOf(name)
		o, ok := l.owner(slot)
		if !ok {
			return nil, fmt.Errorf("nobody owns slot %d of channel %q", slot, name)
		}
		if bySlot[slot] == nil {
			slots[o.Addr] = append(slots[o.Addr], slot)
		}
		owners[o.Addr] = o
		bySlot[slot] = append(bySlot[slot], name)
	}
	defer func() {
		if err == nil {
			return
		}
		for _, shard := range shards {
			_ = shard.Server.Close()
		}
		shards = nil
	}()
	for _, addr := range slices.Sorted(maps.Keys(slots)) {
		s, err := h.connect(ctx, addr)
		if err != nil {
			return shards, err
		}
		s.node, s.slots = owners[addr].ID, slots[addr]
		shard := Shard{Server: s}
		for _, slot := range s.slots {
			shard.Slots = append(shard.Slots, bySlot[slot])
		}
		shards = append(shards, shard)
	}
	h.learn(l)
	return shards, nil
}
