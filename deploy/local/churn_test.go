//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/deploy/bench/load"
	"sluice/shared/embedded"
)

// A round of TestChurn, the same in its short and its long form.
const (
	churnReaders  = 2000 // idle but for the bursts; each of their messages is checked
	churnFrozen   = 50   // read nothing, until the node closes them
	churnRoamers  = 30   // come and go, and go on where they were
	churnLeavers  = 200  // end in a bad way, or read a few KB/s until the end
	churnHostile  = 60
	churnPolls    = 40
	churnChannels = 80 // of the readers, new ones in each round
	churnBursts   = 20
	churnHead     = time.Second // by then a request's head has to be there
)

// churn is an installation whose clients come and go, in rounds.
type churn struct {
	*site
	rng     *rand.Rand
	addr    string // of the node
	monitor string // of the NATS server
	roamers *roamers
	total   int // messages
}

// Clients of all kinds come and go, in rounds; after each one the node and the
// bridge, which an operator does not start anew for months, hold what they held
// before: memory, descriptors, goroutines, NATS subscriptions. All figures are
// taken from outside. SLUICE_CHURN says for how long: a minute in CI, half an
// hour in `task soak`.
func TestChurn(t *testing.T) {
	duration := 5 * time.Second
	if text := os.Getenv("SLUICE_CHURN"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SLUICE_CHURN: %v", err)
		}
	}
	c := newChurn(t)
	end := time.Now().Add(duration)
	// Before the first client there is all that stays for ever, but memory: how much
	// of that the work takes, in pools and buffers, the first round shows.
	nodeBase, bridgeBase := c.look(c.nodes[0]), c.look(c.bridge)
	nodeLimit, bridgeLimit := nodeBase.limit(), bridgeBase.limit()
	serverLimit := descriptors(t, c.nats.Pid()) + spareDescriptors
	t.Logf("before: node %v; bridge %v", nodeBase, bridgeBase)
	c.roamers = newRoamers(t, c.addr, "churn:roam", churnRoamers, c.rng, nil)
	var node, bridge []level
	for round := 0; round < 2 || time.Now().Before(end); round++ {
		began := time.Now()
		c.round(round)
		ended := time.Now()
		node = append(node, c.rest(c.nodes[0], nodeLimit))
		bridge = append(bridge, c.rest(c.bridge, bridgeLimit))
		until(t, "the NATS server has its descriptors back", func() bool { return descriptors(t, c.nats.Pid()) <= serverLimit })
		if round == 0 {
			nodeLimit, bridgeLimit = nodeLimit.within(node[0]), bridgeLimit.within(bridge[0])
		}
		t.Logf("round %d of %.1fs and %.1fs: node %v; bridge %v", round, ended.Sub(began).Seconds(), time.Since(ended).Seconds(), node[round], bridge[round])
	}
	steady(t, "node", node[1:], 0)
	steady(t, "bridge", bridge[1:], 32<<20) // as much as it reserves to be collected seldom
	t.Logf("%d rounds, %d messages, %d visits, closed as stuck: %v", len(node), c.total, c.roamers.visits(), c.stuck())
}

func newChurn(t *testing.T) *churn {
	c := &churn{rng: rand.New(rand.NewPCG(testSeed(t), 0))}
	c.site = newSite(t, embedded.NATSProcessOptions{Config: `http: "127.0.0.1:-1"`}, 1,
		"ROUTES=churn:> history=20000/10m", "BRIDGE_MAX_BYTES=67108864", // which comes soon, and is more than a round
		"SSENODE_LINGER=300ms", "SSENODE_RING_AGE=1s", "SSENODE_RING_BYTES=65536", "SSENODE_HEARTBEAT=1s",
		"SSENODE_HEAD_TIMEOUT="+churnHead.String(), "SSENODE_STUCK_AFTER=1s")
	c.addr = strings.TrimPrefix(c.url(0), "http://")
	_, rest, _ := strings.Cut(c.nats.Output(), "http monitor on ")
	c.monitor = "http://" + strings.Fields(rest + " ?")[0]
	return c
}

// round is one storm: all connect, bursts of messages come while many leave and
// come back, the rest leaves at the end.
func (c *churn) round(round int) {
	t := c.t.(*testing.T)
	t.Helper()
	name := func(i int) string { return fmt.Sprintf("churn:%d:%d", round, i%churnChannels) }
	flood := fmt.Sprintf("churn:flood:%d", round)
	paths := make([]string, churnReaders+churnFrozen)
	for i := range paths {
		paths[i] = "/events?channel=" + name(i)
		if i >= churnReaders {
			paths[i] = "/events?channel=" + flood
		}
		switch c.rng.IntN(4) { // channels that come and go, and stay silent
		case 0:
			paths[i] += fmt.Sprintf("&channel=quiet:%d", c.rng.IntN(1000))
		case 1:
			paths[i] += fmt.Sprintf("&channel=quiet:%d:%d&pattern=quiet:%d:*", round, i, c.rng.IntN(1000))
		}
	}
	silent := "/poll?channel=quiet:poll&timeout=1&lastEventId=" + c.poll("/poll?channel=quiet:poll")
	before := c.stuck()
	readers, err := load.Open(c.addr, load.Options{
		Clients: len(paths), Frozen: churnReaders, Wait: wait,
		Request: func(i int) (string, string) { return paths[i], "" },
		Channel: func(i int) int { return i % churnChannels },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer readers.Close()
	readers.Begin(0)
	ctx, stop := context.WithCancel(context.Background())
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	others.Go(func() { c.roamers.roam(ctx) })
	for i := range churnLeavers {
		path, late := []string{paths[i], "/events?channel=" + flood, silent}[i%3], c.rng.IntN(2000)
		others.Go(func() {
			pause(ctx, time.Duration(late)*time.Millisecond)
			leave(ctx, t, c.site, i/3, path)
		})
	}
	for i := range churnHostile {
		others.Go(func() { hostile(t, c.site, round*churnHostile+i) })
	}
	for i := range churnPolls {
		others.Go(func() {
			id := c.poll("/poll?channel=" + name(i))
			c.poll("/poll?channel=" + name(i) + "&timeout=1&lastEventId=" + id)
			c.poll(silent)
		})
	}
	var number, due int
	for range churnBursts {
		pipe := c.client.Pipeline()
		for range 1 + c.rng.IntN(10) {
			for i := range churnChannels {
				pipe.Publish(ctx, name(i), load.Payload(uint64(number), time.Now()))
			}
			number, due = number+1, due+churnReaders
		}
		c.roamers.publish(pipe, c.rng)
		for range 30 {
			pipe.Publish(ctx, flood, strings.Repeat("x", 4<<10))
		}
		c.total += pipe.Len()
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if err := readers.Wait(int64(due), wait); err != nil {
			t.Fatal(err)
		}
		pause(ctx, time.Duration(c.rng.IntN(150))*time.Millisecond)
	}
	until(t, "frozen clients are closed", func() bool { return c.stuck() >= before+churnFrozen })
	stop()
	others.Wait()
	c.roamers.finish()
	if err := readers.Err(); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// poll returns the position that the answer tells.
func (c *churn) poll(path string) string {
	var answer struct{ LastEventID string }
	late := churnHead
	if strings.Contains(path, "timeout=1&") {
		late += time.Second
	}
	began := time.Now()
	code, body := fetch(c.t, "http://"+c.addr+path)
	for code == 0 && time.Since(began) > late { // so slow a machine that its head came too late
		began = time.Now()
		code, body = fetch(c.t, "http://"+c.addr+path)
	}
	if err := json.Unmarshal([]byte(body), &answer); code != 200 || err != nil || answer.LastEventID == "" {
		c.t.Errorf("%s: %d %.200s", path, code, body)
	}
	return answer.LastEventID
}

func (c *churn) stuck() float64 {
	return c.nodes[0].metric(`sluice_ssenode_closes_total{reason="stuck"}`)
}
