package embedded

import (
	"testing"
	"time"
)

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	r := TestRedisSentinel(t)
	first := r.Master(t)
	if first != r.Servers[0] {
		t.Fatalf("the master is %s, started as such was %s", first.Addr(), r.Servers[0].Addr())
	}
	second := r.Failover(t)
	if second == first || first.Pid() == 0 {
		t.Fatalf("after a failover the master is %s, the other runs as %d", second.Addr(), first.Pid())
	}
	eventually(t, "the old master is a replica", func() bool {
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

// Nothing that was started is left behind, whichever way a test ends.
func TestServersEndWithTheirTest(t *testing.T) {
	t.Parallel()
	var pids []int
	t.Run("inner", func(t *testing.T) {
		r, c := TestRedisSentinel(t), TestRedisCluster(t, 2)
		for _, p := range append(append(r.Servers, r.Sentinels...), c.Servers...) {
			pids = append(pids, p.Pid())
		}
		if err := r.Servers[0].Kill(); err != nil {
			t.Error(err)
		}
	})
	if len(pids) != 7 {
		t.Fatalf("%d processes", len(pids))
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}
