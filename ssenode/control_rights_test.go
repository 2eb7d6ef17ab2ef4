package ssenode

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/shared/embedded"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
)

// Nodes refresh and revoke with the rights that deploy/README.md gives them, and
// nothing is forbidden to them on the way.
func TestControlRights(t *testing.T) {
	all := &server.User{Username: "test", Password: "pw"}
	node := &server.User{Username: "node", Password: "pw", Permissions: &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{
			"sluice.live.>", "sluice.ctl.hello", "sluice.ctl.node.>", "sluice.ctl.reply.>", "_INBOX.>", "$KV.SLUICE_REVOKED.>", "$SRV.>"}},
		Publish: &server.SubjectPermission{Allow: []string{
			"sluice.ctl.hello", "sluice.ctl.node.>", "sluice.ctl.reply.>", "_INBOX.>",
			"$JS.API.DIRECT.GET.SLUICE", "$JS.API.STREAM.MSG.GET.SLUICE", "$JS.API.STREAM.INFO.SLUICE",
			"$JS.API.DIRECT.GET.KV_SLUICE_REVOKED", "$JS.API.STREAM.MSG.GET.KV_SLUICE_REVOKED"}},
	}}
	s, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: t.TempDir(), Modify: func(o *server.Options) { o.Users = []*server.User{all, node} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	u := upstreamAt(t, "nats://test:pw@"+s.Addr(), pulseEvery)
	u.bucket()
	u.revoke(revocation("eve"))
	var log logBuffer
	var nodes []*Node
	for range 2 {
		cfg := worker.Default[Config]()
		cfg.NATS.URL = "nats://node:pw@" + s.Addr()
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
	if strings.Contains(log.String(), "iolation") {
		t.Errorf("log: %s", log.String())
	}
}
