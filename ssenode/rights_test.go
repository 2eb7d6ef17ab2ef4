package ssenode

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/route"
	"sluice/shared/worker"
)

const natsRights = "../deploy/nats/nats.conf"

// others are rights of a node that are not needed to deliver: see TestControlRights for
// requests among nodes, and tokens that were revoked.
var others = func(r embedded.Right) bool {
	return strings.HasPrefix(r.Subject, "sluice.ctl.") || strings.HasPrefix(r.Subject, "$SRV.") || strings.Contains(r.Subject, "SLUICE_REVOKED") ||
		r.Publish && strings.HasPrefix(r.Subject, "_INBOX.")
}

// A node reads, resumes and asks with just the rights that are documented; of each that
// is missing the log tells.
func TestNATSRights(t *testing.T) {
	t.Parallel()
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		g := embedded.TestGuardedNATS(t, natsRights, nil)
		n, u, _ := guardedNode(t, g)
		until(t, "node is ready", func() bool { return n.ready() == nil })
		s := open(t, n, "/events?channel=a")
		settle(t, n)
		u.publish("a", "1")
		id := want(t, s, "", "1").ID
		several(u)
		n2, _, _ := guardedNodeAt(t, g, u)
		until(t, "another node is ready", func() bool { return n2.ready() == nil })
		s2 := resume(t, n2, "/events?channel=a&pattern=b:%3E", id)
		for i := range 6 {
			want(t, s2, "", fmt.Sprint(i))
		}
		asked := n2.history.asked.Load()
		s3 := open(t, n2, "/events?pattern=c:%3E&initial=1")
		until(t, "the stream is asked", func() bool { return n2.history.asked.Load() > asked })
		u.publish("c:x", "2")
		want(t, s3, "", "2")
		if refused := g.Refused(); len(refused) > 0 {
			t.Errorf("refused: %q", refused)
		}
	})
	rights := slices.DeleteFunc(embedded.Rights(t, natsRights, "node"), others)
	if len(rights) != 5 {
		t.Errorf("rights that are needed: %v", rights)
	}
	for _, right := range rights {
		t.Run("without "+right.String(), func(t *testing.T) {
			t.Parallel()
			g := embedded.TestGuardedNATS(t, natsRights, &right)
			n, u, log := guardedNode(t, g)
			several(u)
			subject := strings.TrimSuffix(right.Subject, ">")
			c, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() // it may get no answer
			fmt.Fprint(c, "GET /events?channel=a&pattern=b:%3E&lastEventId=e1-1 HTTP/1.1\r\nHost: x\r\n\r\n")
			until(t, "the log tells", func() bool {
				u.publish("b:x", "1")
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "NATS forbids") && strings.Contains(line, subject) {
						return true
					}
				}
				return false
			})
		})
	}
}

// several publishes more in all than the route keeps of a channel, so that a node that
// replays all of it has to ask whether any channel had more.
func several(u *upstream) {
	for i := range 6 {
		u.publish([]string{"b:x", "b:y"}[i%2], fmt.Sprint(i))
	}
}

// guardedNode is a node at a server that allows what the file allows, and an upstream
// that may do anything.
func guardedNode(t *testing.T, g *embedded.GuardedNATS) (*Node, *upstream, *embedded.Lines) {
	t.Helper()
	return guardedNodeAt(t, g, upstreamAt(t, g.As("test"), pulseEvery))
}

func guardedNodeAt(t *testing.T, g *embedded.GuardedNATS, u *upstream) (*Node, *upstream, *embedded.Lines) {
	t.Helper()
	cfg := worker.Default[Config]()
	cfg.NATS.URL = g.As("node")
	cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
	table, err := route.Parse("b:> history=5/10m")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Routes = *table
	cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, 0
	log := &embedded.Lines{}
	return runNode(t, cfg, slog.New(slog.NewTextHandler(log, nil))), u, log
}
