package embedded

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestClusterSharesTheSlots(t *testing.T) {
	t.Parallel()
	var c *RedisCluster
	leavesNothing(t, func() []*Process { return c.Servers })
	c = TestRedisCluster(t, 3)
	owners := map[*Process]bool{}
	for _, name := range []string{"a", "b", "c"} { // slots 15495, 3300, 7365
		owners[c.Owner(t, name)] = true
	}
	if len(owners) != 3 {
		t.Errorf("%d servers own the three names", len(owners))
	}
	// What is published at any of them arrives at all.
	ps := confirmed(t, c.Client(c.Servers[0]).Subscribe(t.Context(), "a"))
	for _, p := range c.Servers {
		if err := c.Client(p).Publish(t.Context(), "a", p.Addr()).Err(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, ps, 1); got[0] != "|a|"+p.Addr() {
			t.Errorf("%q", got)
		}
	}
	from := c.Owner(t, "a")
	to := c.Servers[(slices.Index(c.Servers, from)+1)%3]
	c.Move(t, "a", to)
	if err := c.Client(from).SPublish(t.Context(), "a", "x").Err(); !redis.HasErrorPrefix(err, "MOVED") {
		t.Errorf("the former owner says %v", err)
	}
}
