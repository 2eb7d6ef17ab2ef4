package ssenode

import (
	"log/slog"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
)

// Nodes refresh and revoke with the rights that deploy/nats/nats.conf gives them, and
// nothing is forbidden to them on the way.
func TestControlRights(t *testing.T) {
	t.Parallel()
	g := embedded.TestGuardedNATS(t, natsRights, nil)
	u := upstreamAt(t, g.As("test"), pulseEvery)
	u.bucket()
	u.revoke(revocation("eve"))
	var log embedded.Lines
	var nodes []*Node
	for range 2 {
		cfg := worker.Default[Config]()
		cfg.NATS.URL = g.As("node")
		cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
		cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, 0
		cfg.SSENode.JWT.Secret = auth.NewSecret(testSecret)
		n := runNode(t, cfg, slog.New(slog.NewTextHandler(&log, nil)))
		until(t, "node is ready", func() bool { return n.ready() == nil })
		nodes = append(nodes, n)
	}
	acquainted(t, nodes...)
	if !refused(t, nodes[0], hs(t, "sub", "eve")) {
		t.Error("what was revoked before is not known")
	}
	stream := open(t, nodes[0], "/events?channel=x&clientId=anna"+query(hs(t)))
	if got := post(t, nodes[1], "/refresh", refreshBody("anna", hs(t))); got.body != `{"success":true,"connections":1}`+"\n" {
		t.Errorf("refresh: %+v", got)
	}
	u.revoke(revocation("anna"))
	ends(t, stream)
	if refused := g.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}
