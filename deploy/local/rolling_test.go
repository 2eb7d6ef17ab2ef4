package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
)

const (
	rollDelay = 3 * time.Second // longer than the two checks of haproxy.cfg
	rollDrain = 4 * time.Second
	rollRetry = 400 * time.Millisecond
)

// addNode starts a node more, which has an address of its own as on a machine of its own;
// addr and admin may have the port 0.
func (s *site) addNode(name, addr, admin string, env ...string) *proc {
	s.t.Helper()
	p := start(s.t, "ssenode", append([]string{
		"NATS_URL=" + s.nats.URL(), "SSENODE_NAME=" + name, "SSENODE_ADDR=" + addr, "ADMIN_ADDR=" + admin,
		"SSENODE_DRAIN_DELAY=" + rollDelay.String(), "SSENODE_DRAIN_TIME=" + rollDrain.String(), "SSENODE_RETRY=" + rollRetry.String(),
	}, env...)...)
	until(s.t, name+" is ready", p.ready)
	return p
}

// addrs are where it serves, and its admin port.
func (p *proc) addrs() (addr, admin string) {
	return p.says(`msg="node serves" addr=(\S+)`), p.says(`admin=(\S+)`)
}

// While messages flow all nodes are restarted, one after the other. Nothing is lost and
// nothing comes twice; a node's streams end no faster than its drain time allows (that
// they end evenly is what TestDrainSpreads of ssenode demands, which no slow machine
// disturbs), and their clients come back at times of their own. Then one is killed, and
// they come at once.
func TestRollingRestart(t *testing.T) {
	embedded.NeedProgram(t, "haproxy")
	const clients = 600
	s := newSite(t, embedded.NATSProcessOptions{}, 0)
	for i := range 3 {
		host := fmt.Sprintf("127.0.3.%d:0", i+1)
		s.nodes = append(s.nodes, s.addNode(fmt.Sprint("n", i+1), host, host))
	}
	b := newBalanced(t, s, "haproxy", "127.0.0.1:1")
	c := newCrowd(b, "roll", clients, rand.New(rand.NewPCG(testSeed(t), 0)))

	moved, drainPeak := 0, 0.0
	for i, node := range s.nodes {
		name := fmt.Sprint("n", i+1)
		addr, admin := node.addrs()
		began := time.Now()
		node.stop()
		c.moved(name)
		list := c.movesFrom(name, began)
		moved += len(list)
		if len(list) < clients/10 {
			t.Fatalf("%s had only %d clients", name, len(list))
		}
		evenly(t, name, list, began.Add(rollDelay))
		share := float64(peak(list)) / float64(len(list))
		t.Logf("%s restarted: %d clients, %d of them came back within a tenth of a second, %.1f%%", name, len(list), peak(list), 100*share)
		drainPeak = max(drainPeak, share)
		s.nodes[i] = s.addNode(name, addr, admin)
		eventually(t, "HAProxy knows it", func() bool {
			_, after, down := strings.Cut(b.Output(), "Server streams/node"+name[1:]+" is DOWN")
			return down && strings.Contains(after, "Server streams/node"+name[1:]+" is UP")
		})
	}
	if n := c.total(); n != moved {
		t.Errorf("%d streams have ended, %d of them of a node that was stopped", n, moved)
	}

	// The plain way.
	on, _ := c.spread()
	most := 0
	for i := range s.nodes {
		if on[fmt.Sprint("n", i+1)] > on[fmt.Sprint("n", most+1)] {
			most = i
		}
	}
	began, victim := time.Now(), s.nodes[most]
	_ = victim.cmd.Process.Kill()
	<-victim.done
	name := fmt.Sprint("n", most+1)
	c.moved(name)
	list := c.movesFrom(name, began)
	share := float64(peak(list)) / float64(len(list))
	t.Logf("%s killed: %d clients, %d of them came back within a tenth of a second, %.1f%%: %.0f times the restarts' %.1f%%", name, len(list), peak(list), 100*share, share/drainPeak, 100*drainPeak)
	c.finish()
	messages := 0
	for _, n := range c.sent {
		messages += n
	}
	t.Logf("%d messages, %d visits of %d clients", messages, c.visits(), clients)
}

// evenly demands that streams were closed at most as fast as the drain time allows, which
// no machine is too slow for, and that they were told when to come back.
func evenly(t *testing.T, name string, list []move, began time.Time) {
	t.Helper()
	// The node and this test have different clocks for it, and may be told to set them.
	const slack = 3
	for k, m := range list {
		allowed := float64(len(list)) * float64(m.ended.Sub(began)) / float64(rollDrain)
		if float64(k+1) > allowed+slack {
			t.Fatalf("%s: %d of %d streams had ended %v after the delay of %v, %.0f are allowed in a drain of %v", name, k+1, len(list), m.ended.Sub(began), rollDelay, allowed, rollDrain)
		}
		if m.told && (m.retry < rollRetry*3/4 || m.retry > rollRetry*5/4) {
			t.Fatalf("%s: told to come back after %v", name, m.retry)
		}
		if m.back.Sub(m.ended) < m.retry {
			t.Fatalf("%s: back after %v, told %v", name, m.back.Sub(m.ended), m.retry)
		}
	}
	endedWell(t, name, list)
}

// endedWell demands that nearly all streams ended with last words. Those that were behind up
// to the end of a drain did not, and on a slow machine there may be some.
func endedWell(t *testing.T, name string, list []move) {
	t.Helper()
	untold := 0
	for _, m := range list {
		if !m.told {
			untold++
		}
	}
	if untold > 0 {
		t.Logf("%s: %d of %d streams ended without a word", name, untold, len(list))
	}
	if untold > len(list)/20 {
		t.Errorf("%s: that is too many", name)
	}
}
