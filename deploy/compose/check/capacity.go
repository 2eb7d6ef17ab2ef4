package check

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"
)

// The memory in bytes that is reckoned for a connection to the balancer with a stream in
// it: in all, which compose.yaml explains, and of HAProxy itself, which the tests measure.
const (
	perConnection = 80 << 10
	ofHAProxy     = 56 << 10
)

// capacity compares the connections that the balancer takes with its memory and its open
// files, and the nodes' streams with these connections and with its ports.
func (s *set) capacity() {
	c, found := s.project.Services["balancer"]
	if !found {
		return // said by balancer
	}
	most := 0
	if at := slices.Index(c.Command, "-n"); at >= 0 && at+1 < len(c.Command) {
		most, _ = strconv.Atoi(c.Command[at+1])
	}
	if most < 1 {
		s.add("balancer: it takes any number of connections: no -n")
		return
	}
	if memory := int64(most) * perConnection; memory > int64(c.MemLimit) {
		s.add("balancer: %d connections are reckoned to take %d MiB, more than its memory limit", most, memory>>20)
	}
	// The browser's connection and the node's, and some for itself.
	if files := c.Ulimits["nofile"]; files == nil || files.Single < 2*most+1000 {
		s.add("balancer: too few open files for %d connections", most)
	}
	streams, ports := 0, localPorts(&c)
	for name, other := range s.project.Services {
		f, known := facts(&other)
		if !known {
			continue // said by program
		}
		streams += f.Most
		// As many again for requests that are no streams, and for streams that are ending
		// while their clients are back already.
		if 2*f.Most > ports {
			s.add("balancer: it has %d ports to %s, which takes %d streams; want twice as many", ports, name, f.Most)
		}
	}
	if streams > most {
		s.add("balancer: nodes take %d streams, more than its %d connections: clients would wait instead of being refused", streams, most)
	}
}

// localPorts is how many connections a container can have to one address and port.
func localPorts(c *types.ServiceConfig) int {
	text, given := c.Sysctls["net.ipv4.ip_local_port_range"]
	if !given {
		text = "32768 60999" // Linux' own
	}
	var first, last int
	if _, err := fmt.Sscan(text, &first, &last); err != nil || first < 1024 || last > 65535 {
		return 0
	}
	return last - first + 1
}
