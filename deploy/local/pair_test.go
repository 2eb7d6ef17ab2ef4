package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// pair is an installation as one runs it that must not fail: bridges, three
// NATS servers that each keep every event, two nodes, a Redis, all of them
// processes. Each bridge reaches Redis and NATS over hops of its own.
type pair struct {
	t       testing.TB
	redis   *embedded.Process
	nats    *embedded.NATSCluster
	bridges []*member
	nodes   []string // URLs
}

// member is one bridge of a pair, over all its lives.
type member struct {
	*proc
	env    []string
	toward string // URL of its admin port
	redis  *embedded.Proxy
	nats   []*embedded.Proxy // one for each server
}

// newPair returns once one bridge leads, all others are hot and the nodes are
// ready.
func newPair(t testing.TB, bridges int, env ...string) *pair {
	t.Helper()
	p := &pair{t: t, redis: embedded.TestRedisProcess(t)}
	// Else the bridges would hear of servers without hops.
	p.nats = embedded.TestNATSCluster(t, 3, "--no_advertise")
	log := "LOG_LEVEL=" + cmp.Or(os.Getenv("LOG_LEVEL"), "info")
	for range bridges {
		m := &member{redis: embedded.TestProxy(t, p.redis.Addr())}
		var urls []string
		for _, s := range p.nats.Servers {
			hop := embedded.TestProxy(t, s.Addr())
			m.nats = append(m.nats, hop)
			urls = append(urls, "nats://"+hop.Addr())
		}
		m.env = append([]string{"REDIS_URL=redis://" + m.redis.Addr(), "NATS_URL=" + strings.Join(urls, ","), "BRIDGE_REPLICAS=3", log}, env...)
		m.start(t)
		p.bridges = append(p.bridges, m)
	}
	p.await()
	for i := range 2 {
		n := start(t, "ssenode", append([]string{"SSENODE_ADDR=127.0.0.1:0", fmt.Sprintf("SSENODE_NAME=n%d", i+1), "NATS_URL=" + p.nats.URL(), log}, env...)...)
		until(t, "a node is ready", n.ready)
		p.nodes = append(p.nodes, "http://"+n.says(`msg="node serves" addr=(\S+)`))
	}
	return p
}

// start begins another life of the bridge.
func (m *member) start(t testing.TB) {
	t.Helper()
	m.proc = start(t, "bridge", m.env...)
	m.toward = m.admin()
}

// kill ends the bridge as hard as it can be.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// eachNATS does something to the hops to all NATS servers.
func (m *member) eachNATS(f func(*embedded.Proxy)) {
	for _, hop := range m.nats {
		f(hop)
	}
}

// freeze stops the bridge for five seconds, with whatever it has under way.
func (m *member) freeze() {
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	pause(m.t.Context(), 5*time.Second)
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
}

// eventually is until for what is asked over HTTP.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	embedded.EventuallyEvery(t, what, wait, 20*time.Millisecond, ok)
}

// What a bridge says of itself at /readyz; "cold standby: <why>" is the third.
const (
	leads = "leader"
	hot   = "hot standby"
)

// impatient is for those who may not answer, because they are stopped.
var impatient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// state is what the bridge says of itself, "" if it is not ready.
func (m *member) state() string {
	resp, err := impatient.Get(m.toward + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// await waits until one bridge leads and all others are hot, and returns the
// leader and, if there is one, a standby.
func (p *pair) await() (leader, standby *member) {
	p.t.Helper()
	var states []string
	defer func() {
		if p.t.Failed() {
			p.t.Logf("bridges: %q", states)
		}
	}()
	eventually(p.t, "one bridge leads and the others are hot", func() bool {
		leader, standby, states = nil, nil, nil
		cold := false
		for _, m := range p.bridges {
			s := m.state()
			states = append(states, s)
			switch s {
			case leads:
				leader = m
			case hot:
				standby = m
			default:
				cold = true
			}
		}
		return leader != nil && !cold && (standby != nil || len(p.bridges) == 1)
	})
	return leader, standby
}

// other is the bridge beside the one given.
func (p *pair) other(m *member) *member {
	if p.bridges[0] != m {
		return p.bridges[0]
	}
	return p.bridges[1]
}

// awaitLeader waits until some bridge leads.
func (p *pair) awaitLeader() {
	p.t.Helper()
	eventually(p.t, "a bridge leads", func() bool {
		return slices.ContainsFunc(p.bridges, func(m *member) bool { return m.state() == leads })
	})
}

// roles are the server that leads the stream and those that follow.
func (p *pair) roles() (leader *embedded.Process, followers []*embedded.Process) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	leader, followers, err := p.nats.Roles(ctx, "SLUICE")
	if err != nil {
		p.t.Fatal(err)
	}
	return leader, followers
}

// stored is how many messages the bridges have had acknowledged.
func (p *pair) stored() (n float64) {
	for _, m := range p.bridges {
		n += m.metric("sluice_bridge_stored_total")
	}
	return n
}

// bounce kills a NATS server, and starts it again once messages are stored without
// it.
func (p *pair) bounce(server *embedded.Process) {
	p.t.Helper()
	kill(p.t, server)
	before := p.stored()
	eventually(p.t, "messages are stored without the server", func() bool { return p.stored() > before+1000 })
	if err := server.Restart(); err != nil {
		p.t.Fatal(err)
	}
	p.roles() // all are up to date
}
