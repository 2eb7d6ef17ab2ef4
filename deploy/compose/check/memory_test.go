package check

import (
	"fmt"
	"os"
	"strings"

	"sluice/shared/sseclient"
)

// memory compares what HAProxy takes for a stream on a connection of its own with what is
// reckoned.
func (s *stack) memory() {
	const clients = 300
	first, _ := s.of["balancer"].Running()
	if first == nil {
		s.t.Fatal("the balancer has ended")
	}
	// The first process only looks after the one that works.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", first.Process.Pid, first.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	worker := strings.TrimSpace(string(text))
	before := s.resident(worker)
	for range clients {
		st, err := sseclient.Open(s.t.Context(), s.url("/events?channel="+channel), sseclient.Options{Client: s.browser()})
		if err != nil {
			s.t.Fatal(err)
		}
		defer st.Close()
		if ev, err := st.NextData(wait); err != nil || ev.Name != "connected" {
			s.t.Fatalf("first event %+v, %v", ev, err)
		}
	}
	each := (s.resident(worker) - before) / clients
	s.t.Logf("a stream takes %d bytes of HAProxy", each)
	if each < 1<<10 || each > ofHAProxy {
		s.t.Errorf("a stream takes %d bytes of HAProxy, reckoned are at most %d", each, ofHAProxy)
	}
}

// resident is the memory of a process, in bytes.
func (s *stack) resident(pid string) int {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	s.t.Fatalf("process %s has no VmRSS", pid)
	return 0
}
