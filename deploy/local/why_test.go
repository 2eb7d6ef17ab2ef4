package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// guardedSite is two nodes and a bridge at a NATS server that allows just what
// deploy/nats allows.
func guardedSite(t *testing.T, env ...string) (*site, *embedded.GuardedNATS) {
	t.Helper()
	g := embedded.TestGuardedNATS(t, natsRights, nil)
	return newSiteAt(t, g.As, 2, env...), g
}

// tapAs runs publisher tap and returns it when it listens.
func (s *site) tapAs(g *embedded.GuardedNATS, args, ready string) *proc {
	s.t.Helper()
	p := start(s.t, "publisher tap "+args, "REDIS_URL="+s.redis.URL(), "NATS_URL="+g.As("operator"))
	p.says("tapping .*" + ready)
	return p
}

// ended waits for the end of a command and returns what it has printed.
func (p *proc) ended(code int) string {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(wait):
		p.t.Fatalf("%s does not end: %s", p.name, p.output())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("%s ended with %d, want %d: %s", p.name, got, code, p.output())
	}
	return p.output()
}

// An operator follows a channel with the rights of one: each message is told hop by
// hop, in its order, with the clients on each node; also one that the bridge did not
// write, and those of channels without history. Payloads are not shown by themselves.
func TestTap(t *testing.T) {
	t.Parallel()
	s, g := guardedSite(t, "ROUTES=live:> history=off; slow throttle=1h")
	var all []*sseclient.Stream
	for i, path := range []string{"channel=race&channel=slow", "channel=race&channel=live:a", "pattern=%3E"} {
		st := s.open(min(i, 1), "/events?"+path)
		positioned(t, st)
		all = append(all, st)
	}
	tap := s.tapAs(g, "race -n 4 -for 30s", `2 nodes: n1 with 1 client, n2 with 2 clients|2 nodes: n2 with 2 clients, n1 with 1 client`)
	for _, payload := range []string{"same", "same", "other", "same"} {
		s.publish("race", payload)
	}
	out := tap.ended(0)
	for _, st := range all {
		for _, payload := range []string{"same", "same", "other", "same"} {
			want(t, st, "", payload)
		}
	}
	seqs := regexp.MustCompile(`sequence (\d+)`).FindAllString(out, -1)
	hashes := regexp.MustCompile(`(?m)^\d  \d bytes, hash ([0-9a-f]{16})$`).FindAllStringSubmatch(out, -1)
	n1 := regexp.MustCompile(`n1 .* given to 1 client by [+-]\d+\.\d ms\n`).FindAllString(out, -1)
	n2 := regexp.MustCompile(`n2 .* given to 2 clients by [+-]\d+\.\d ms\n`).FindAllString(out, -1)
	if len(seqs) != 4 || len(hashes) != 4 || len(n1) != 4 || len(n2) != 4 || strings.Contains(out, "same") ||
		hashes[0][1] != hashes[1][1] || hashes[1][1] != hashes[3][1] || hashes[0][1] == hashes[2][1] {
		t.Fatalf("%s", out)
	}

	tap = s.tapAs(g, "live:a -n 1 -data 5", "2 nodes")
	s.publish("live:a", "payload")
	if out := tap.ended(0); !strings.Contains(out, "without history") || !strings.Contains(out, `"paylo"…`) || strings.Contains(out, "sequence") {
		t.Errorf("%s", out)
	}
	tap = s.tapAs(g, "slow -n 2", "2 nodes")
	s.publish("slow", "1")
	s.publish("slow", "2")
	if out := tap.ended(0); strings.Count(out, "throttle= holds it back") != 2 {
		t.Errorf("%s", out)
	}
	// Nobody listens; and what is over is not followed.
	tap = s.tapAs(g, "quiet -n 5 -for 700ms", "2 nodes")
	s.publish("quiet:other", "1")
	if out := tap.ended(0); !strings.Contains(out, "nothing came") {
		t.Errorf("%s", out)
	}
	tap = s.tapAs(g, "race -n 1", "2 nodes")
	s.bridge.stop()
	s.publish("race", "lost")
	if out := tap.ended(0); !strings.Contains(out, "not there after 4s") || strings.Contains(out, "sequence") {
		t.Errorf("%s", out)
	}
	if refused := g.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}

// What holds for a client and a message is told by any node, over real programs: after
// it was connected, and after it has left.
func TestWhy(t *testing.T) {
	t.Parallel()
	s, g := guardedSite(t)
	until(t, "the nodes know each other", func() bool {
		_, text := fetch(t, s.nodes[0].admin()+"/debug/clients?client=anna")
		return text == `{"count":0,"complete":true,"truncated":false,"clients":[]}`+"\n" && s.nodes[0].metric("sluice_ssenode_control_nodes") == 2
	})
	st := s.open(1, "/events?channel=orders&clientId=anna")
	positioned(t, st)
	s.publish("orders", "1")
	id := want(t, st, "", "1").ID
	f := func(path string, want ...string) {
		t.Helper()
		code, text := fetch(t, s.nodes[0].admin()+path)
		if code != 200 || !json.Valid([]byte(text)) {
			t.Fatalf("%s: %d %s", path, code, text)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %s in %s", path, w, text)
			}
		}
	}
	f("/debug/clients?client=anna", `"complete":true`, `"node":"n2"`, `"lastId":"`+id+`"`, `"behind":null`)
	f("/debug/why?client=anna&channel=orders&id="+id, `"what":"stored"`, `"what":"given"`)
	f("/debug/why?client=anna&channel=other", `"what":"none"`)
	st.Close()
	until(t, "it has left", func() bool { return s.nodes[1].metric("sluice_ssenode_connections") == 0 })
	s.publish("orders", "2")
	until(t, "it is told why", func() bool {
		_, text := fetch(t, s.nodes[0].admin()+"/debug/why?client=anna&channel=orders")
		return strings.Contains(text, `"what":"not-connected"`) && strings.Contains(text, `"reason":"client-gone"`)
	})
	if refused := g.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}
