package embedded

import (
	"testing"
	"time"
)

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	var r *RedisSentinel
	leavesNothing(t, func() []*Process { return append(r.Servers, r.Sentinels...) })
	r = TestRedisSentinel(t)
	first := r.Master(t)
	if first != r.Servers[0] {
		t.Fatalf("the master is %s, started as such was %s", first.Addr(), r.Servers[0].Addr())
	}
	second := r.Failover(t)
	if second == first || first.Pid() == 0 {
		t.Fatalf("after a failover the master is %s, the other runs as %d", second.Addr(), first.Pid())
	}
	Eventually(t, "the old master is a replica", sentinelPatience, func() bool {
		role, err := r.Client(first).Do(t.Context(), "role").Slice()
		return err == nil && role[0] == "slave"
	})
	start := time.Now()
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	if third := r.NewMaster(t, second); third != first {
		t.Errorf("the master is %s, want %s, the only one left", third.Addr(), first.Addr())
	}
	t.Logf("%s from the kill to the new master", time.Since(start).Round(time.Millisecond))
}

// leavesNothing checks at the end of the test, whichever way it ends, that none of
// its servers is left. Call it before they are started.
func leavesNothing(t *testing.T, servers func() []*Process) {
	t.Cleanup(func() {
		for _, p := range servers() {
			if alive(p.pid()) {
				t.Errorf("process %d is left", p.pid())
			}
		}
	})
}
