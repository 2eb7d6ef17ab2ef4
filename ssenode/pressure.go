package ssenode

import "github.com/prometheus/client_golang/prometheus"

// late is how many streams and polls were not up to date at the last tick.
func (n *Node) late() (sum int64) {
	for _, l := range n.loops {
		sum += l.late.Load()
	}
	return sum
}

// registerPressure adds what shows that a node, or its clients, cannot keep up. It is
// looked up when it is asked for.
func (n *Node) registerPressure(reg prometheus.Registerer) {
	gauge := func(name, help string, f func() int64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_ssenode_" + name, Help: help},
			func() float64 { return float64(f()) }))
	}
	gauge("behind_connections", "Streams and polls that are not up to date now: slow ones, and those that are being caught up.", n.late)
	gauge("inbox_messages", "Messages from NATS that the node has not looked at yet; when 65,536 wait, some are dropped.", func() int64 {
		return int64(len(n.hub.inbox))
	})
	gauge("loop_queue_bytes", "Bytes of events that wait for the loops that write to clients.", func() (sum int64) {
		for _, l := range n.loops {
			l.mu.Lock()
			sum += l.bytes
			l.mu.Unlock()
		}
		return sum
	})
}
