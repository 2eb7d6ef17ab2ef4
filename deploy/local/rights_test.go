package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/sseclient"
)

const natsRights = "../nats/nats.conf"

// All programs run with just the rights of deploy/nats: a client gets every message
// while the leading bridge is killed, comes back to another node, and to one that was
// started again. The server has refused nobody anything.
func TestNATSRights(t *testing.T) {
	t.Parallel()
	g := embedded.TestGuardedNATS(t, natsRights, nil)
	server := embedded.TestRedis(t)
	s := &site{t: t, redis: server}
	var err error
	if s.client, err = redisconn.Open(server.URL(), redisconn.Options{Worker: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	bridge := func() *proc {
		return start(t, "bridge", "REDIS_URL="+server.URL(), "NATS_URL="+g.As("bridge"), "BRIDGE_PULSE=200ms", "ROUTES=live:> history=off")
	}
	node := func(name string) *proc {
		return start(t, "ssenode", "NATS_URL="+g.As("node"), "SSENODE_ADDR=127.0.0.1:0", "SSENODE_NAME="+name,
			"SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=500ms", "ROUTES=live:> history=off")
	}
	s.bridge, s.nodes = bridge(), []*proc{node("n1"), node("n2")}
	s.awaitReady()
	standby := bridge()
	until(t, "a hot standby", func() bool {
		_, state := fetch(t, standby.admin()+"/readyz")
		return strings.HasPrefix(state, "hot standby")
	})
	st := s.open(0, "/events?channel=a&channel=live:a&pattern=b:%3E")
	positioned(t, st)
	sent := 0
	// say publishes, and returns once the client has the event.
	say := func(st *sseclient.Stream, name string) sseclient.Event {
		t.Helper()
		s.publish(name, fmt.Sprint(sent))
		sent++
		return want(t, st, "", fmt.Sprint(sent-1))
	}
	say(st, "a")
	say(st, "live:a")
	say(st, "b:x")
	_ = s.bridge.cmd.Process.Kill()
	s.publish("a", "while nobody leads")
	for gap, came := false, false; !gap || !came; { // what is live may be lost by that
		switch ev := next(t, st); {
		case ev.Name == "gap" && !gap:
			gap = true
		case ev.Data == "while nobody leads" && !came:
			came = true
		default:
			t.Fatalf("event %+v", ev)
		}
	}
	moved(t, st, say(st, "b:y")) // an id from before the takeover is told a gap
	id := st.LastEventID()
	st.Close()
	s.nodes[0].stop()
	s.publish("a", "missed")
	s.publish("b:z", "missed, too")
	s.nodes = append(s.nodes, node("n3"))
	until(t, "the new node is ready", s.nodes[2].ready)
	for n := 1; n <= 2; n++ {
		st, err := sseclient.Open(t.Context(), s.url(n)+"/events?channel=a&pattern=b:%3E", sseclient.Options{LastEventID: id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Close)
		if ev := next(t, st); ev.Name != "connected" {
			t.Fatalf("first event %+v", ev)
		}
		want(t, st, "", "missed")
		want(t, st, "", "missed, too")
		moved(t, st, say(st, "a"))
		id = st.LastEventID()
		s.publish("a", "missed")
		s.publish("b:z", "missed, too")
	}
	poster := start(t, "publisher serve", "REDIS_URL="+server.URL(), "NATS_URL="+g.As("publisher"), "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_DRAIN_DELAY=0s")
	api := "http://" + poster.says(`msg="publisher serves" addr=(\S+)`)
	until(t, "the publisher counts the clients of both nodes", func() bool {
		return postTo(t, api+"/publish/a", "counted") == `200 {"success":true,"recipients":2}`
	})
	if got := postTo(t, api+"/revoke", `{"sub":"nobody","for":"1s"}`); !strings.HasPrefix(got, "200 ") {
		t.Errorf("revoke: %s", got)
	}
	standby.stop()
	if refused := g.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}

// moved waits until the stream has told a position that is not before the event.
func moved(t *testing.T, st *sseclient.Stream, ev sseclient.Event) {
	t.Helper()
	for before := st.LastEventID(); !ev.HasID && st.LastEventID() == before; {
		if ev, err := st.NextWithin(wait); err != nil || ev.HasData {
			t.Fatalf("before the next position: %+v, %v", ev, err)
		}
	}
}

// nats-server itself takes the file, with the passwords in its environment.
func TestNATSConf(t *testing.T) {
	t.Parallel()
	path, err := embedded.BuildNATSServer("")
	if err != nil {
		t.Fatal(err)
	}
	f := func(env ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path, "-t", "-c", natsRights)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	passwords := []string{"SLUICE_BRIDGE_PASSWORD=b1", "SLUICE_NODE_PASSWORD=n1", "SLUICE_PUBLISHER_PASSWORD=p1", "SLUICE_OPERATOR_PASSWORD=o1"}
	if out, err := f(passwords...); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := f(passwords[1:]...); err == nil {
		t.Error("a password may be missing")
	}
}

// connect is a connection of a user's, as a program has it, and what it is refused.
func connect(t *testing.T, g *embedded.GuardedNATS, user, inbox string) (*nats.Conn, chan error) {
	t.Helper()
	refused := make(chan error, 100)
	nc, err := nats.Connect(g.As(user), nats.CustomInboxPrefix("_INBOX."+inbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		refused <- err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, refused
}

// A node that was taken over, or a publisher, writes no events, answers for no bridge
// and hears nobody else's answers; nor does a person.
func TestNATSRefuses(t *testing.T) {
	t.Parallel()
	g := embedded.TestGuardedNATS(t, natsRights, nil)
	for _, user := range []struct{ name, inbox string }{{"node", "ssenode"}, {"publisher", "publisher"}, {"operator", "operator"}} {
		nc, refused := connect(t, g, user.name, user.inbox)
		refuse := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Errorf("%s, %s: %v", user.name, what, err)
				}
			case <-time.After(wait):
				t.Errorf("%s may %s", user.name, what)
			}
		}
		subjects := []string{"sluice.log.a", "sluice.log.$pulse", "sluice.log.$gap", "sluice.live.a", "sluice.live.$pulse", "sluice.ctl.bridge",
			"_INBOX.bridge.x", "other.program"}
		if user.name != "operator" {
			subjects = append(subjects, "$JS.API.STREAM.DELETE.SLUICE", "$JS.API.STREAM.PURGE.SLUICE", "$JS.API.STREAM.MSG.DELETE.SLUICE",
				"$JS.API.STREAM.UPDATE.SLUICE", "$JS.API.CONSUMER.CREATE.SLUICE.x", "$JS.API.STREAM.CREATE.OTHER")
		}
		if user.name == "node" {
			subjects = append(subjects, "$KV.SLUICE_REVOKED.sub.anna", "$JS.API.STREAM.PURGE.KV_SLUICE_REVOKED")
		}
		for _, subject := range subjects {
			refuse("publish "+subject, nc.Publish(subject, []byte("forged")))
		}
		for _, subject := range []string{"_INBOX.bridge.>", "other.program", ">"} {
			_, err := nc.SubscribeSync(subject)
			refuse("subscribe "+subject, err)
		}
		if user.name != "operator" {
			_, err := nc.SubscribeSync("sluice.log.>")
			refuse("subscribe sluice.log.>", err)
		}
	}
}
