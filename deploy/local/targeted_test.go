//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/deploy/bench/load"
	"sluice/shared/embedded"
)

// Ten thousand clients over two nodes, each on its own user's channel: a message to one
// of them is written by the one node that has it, to that client alone, and the other
// node does no work for it: it gets nothing from NATS and writes nothing. The
// nodes are processes of their own, and this one is the clients.
func TestTargeted(t *testing.T) {
	const clients, sample, each = 10_000, 200, 3
	// Without heartbeats, every byte that a node writes is of a message.
	s := newSite(t, embedded.NATSProcessOptions{}, 2, "SSENODE_ENDPOINTS=/mine=user:{query.user}", "SSENODE_HEARTBEAT=0")
	groups := make([]*load.Clients, len(s.nodes))
	began := time.Now()
	var opening sync.WaitGroup
	for node := range s.nodes {
		opening.Go(func() { // user i is at node i%2
			var err error
			groups[node], err = load.Open(strings.TrimPrefix(s.url(node), "http://"), load.Options{
				Clients: clients / 2, Wait: 2 * wait,
				Request: func(i int) (string, string) { return fmt.Sprintf("/mine?user=%d", 2*i+node), "" },
				Channel: func(i int) int { return 2*i + node },
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	for _, g := range groups {
		if g != nil {
			t.Cleanup(g.Close)
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("%d clients after %.1fs", clients, time.Since(began).Seconds())
	// The last thing that a node writes by itself is each stream's first position.
	var work [2]nodeWork
	look := func() (now [2]nodeWork) {
		for i, n := range s.nodes {
			now[i] = worked(n)
		}
		return now
	}
	embedded.EventuallyEvery(t, "the nodes have nothing more to do", wait, time.Second, func() bool {
		before := work
		work = look()
		return work[0].idle(before[0]) && work[1].idle(before[1])
	})

	rng := rand.New(rand.NewPCG(testSeed(t), 0))
	users := rng.Perm(clients)[:sample]
	users[0], users[1] = 0, 1 // at both nodes, whatever the seed
	due := map[int]uint64{}
	var sent [2]int // by node
	for _, user := range users {
		if due[user] != 0 {
			continue
		}
		due[user] = each
		sent[user%2] += each
		for n := range each {
			s.publish(fmt.Sprint("user:", user), string(load.Payload(uint64(n), time.Now())))
		}
	}
	// For nobody, or for one that is not among them.
	s.publish(fmt.Sprint("user:", clients), string(load.Payload(0, time.Now())))
	for node, g := range groups {
		if err := g.Wait(int64(sent[node]), wait); err != nil {
			t.Fatal(err)
		}
	}
	for user := range clients {
		if got := groups[user%2].Has(user / 2); got != due[user] {
			t.Errorf("user %d has %d messages, want %d", user, got, due[user])
		}
	}
	for node, n := range s.nodes {
		wantWork := nodeWork{in: work[node].in + float64(sent[node]), out: work[node].out + float64(sent[node])}
		until(t, "the work is counted", func() bool { w := worked(n); return w.in >= wantWork.in && w.out >= wantWork.out })
		if w := worked(n); w.in != wantWork.in || w.out != wantWork.out {
			t.Errorf("node %d: %v messages from NATS, %v written, want %d", node+1, w.in-work[node].in, w.out-work[node].out, sent[node])
		}
	}

	// And with the clients of one node alone: the other is as if nothing happened.
	work = look()
	const alone = 500
	for i := range alone {
		s.publish("user:2", string(load.Payload(due[2]+uint64(i), time.Now())))
	}
	if err := groups[0].Wait(int64(sent[0])+alone, wait); err != nil {
		t.Fatal(err)
	}
	until(t, "the bridge has told by a pulse that it is all", func() bool { return worked(s.nodes[1]).pulses > work[1].pulses+1 })
	now := look()
	if now[0].in-work[0].in != alone || now[0].out-work[0].out != alone {
		t.Errorf("the node with the client: %+v, before %+v", now[0], work[0])
	}
	if !now[1].idle(work[1]) {
		t.Errorf("the other node: %+v, before %+v", now[1], work[1])
	}
	for _, g := range groups {
		if err := g.Err(); err != nil {
			t.Error(err)
		}
	}
}

// nodeWork is what a node has done: messages that NATS brought for its clients' channels,
// events and bytes written, requests to the stream; and pulses, which come to all.
type nodeWork struct{ in, out, bytes, asked, pulses float64 }

// idle tells whether nothing but pulses has come since.
func (w nodeWork) idle(since nodeWork) bool {
	w.pulses = since.pulses
	return w == since
}

func worked(p *proc) nodeWork {
	m := p.metrics()
	return nodeWork{
		in: m[`sluice_ssenode_messages_in_total{kind="event"}`], out: m["sluice_ssenode_events_out_total"],
		bytes: m["sluice_ssenode_bytes_out_total"], asked: m["sluice_ssenode_history_requests_total"],
		pulses: m[`sluice_ssenode_messages_in_total{kind="system"}`],
	}
}
