package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/publisher"
	"sluice/shared/certs"
	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// The settings with which Sluice takes the place of today's apps: their paths, and
// what is special about their channels.
const (
	appEndpoints = "SSENODE_ENDPOINTS=" +
		"/api/events/race=race-events:{query.urlSlug};" +
		"/api/events/leaderboard=leaderboard:{query.urlSlug};" +
		"/api/events/auction=auction:{query.auctionId};" +
		"/api/events/game=game:{query.room},game:{query.room}:*;" +
		"/getBillStatus=billStatusChannel"
	appRoutes = "ROUTES=leaderboard:* throttle=1s; game:> history=off; billStatusChannel initial=1; " +
		"auction:* history=5000/10m; alerts:> priority=high; trivia:> priority=low"
	// With a key: each user's own channel, and those that come by themselves.
	appSecret   = "a secret that nobody guesses so soon"
	appSignedIn = "SSENODE_JWT_SECRET=" + appSecret
	appUser     = "SSENODE_ENDPOINTS=/notifications/stream=user:{claim.sub}"
	appAuto     = "SSENODE_AUTO_CHANNELS=sse:broadcast,sse:channel:{clientId},sse:group:{claim.groups}"
)

// apps is an installation with two nodes, for the apps of ../../shared/apps.md.
type apps struct {
	*site
	rec *record
}

func newApps(t testing.TB, env ...string) *apps {
	t.Helper()
	s := newSite(t, embedded.NATSProcessOptions{}, 2, env...)
	for i := range s.nodes {
		until(t, "the nodes know each other", func() bool { return s.nodes[i].metric("sluice_ssenode_control_nodes") == 2 })
	}
	return &apps{site: s, rec: newRecord(t, s.client)}
}

// token is signed for the subject, with further claims.
func token(t testing.TB, sub string, claims ...any) string {
	t.Helper()
	all := jwt.MapClaims{"sub": sub, "exp": jwt.NewNumericDate(time.Now().Add(time.Hour))}
	for i := 0; i < len(claims); i += 2 {
		all[claims[i].(string)] = claims[i+1]
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(appSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// play lets a scenario's publisher run until it is stopped; then all that it has
// published is recorded.
func (a *apps) play(size int, rate float64, scenarios ...string) (stop func()) {
	a.t.Helper()
	client, err := publisher.Open(a.redis.URL(), certs.Client{})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		o := publisher.SimulateOptions{Scenarios: scenarios, Size: size, Rate: rate}
		if err := publisher.Simulate(ctx, client, o, slog.New(slog.DiscardHandler)); err != nil {
			a.t.Error(err)
		}
	})
	end := sync.OnceFunc(func() { cancel(); wg.Wait() })
	a.t.Cleanup(end)
	return func() { end(); a.recorded() }
}

// recorded waits until the record has all that was published by now.
func (a *apps) recorded() {
	a.t.Helper()
	const mark = "test:recorded"
	n := len(a.rec.of(mark))
	a.publish(mark, "")
	until(a.t, "it is recorded", func() bool { return len(a.rec.of(mark)) > n })
}

// goesOn waits until so many messages more are published on a channel.
func (a *apps) goesOn(channel string, more int) {
	a.t.Helper()
	n := len(a.rec.of(channel)) + more
	eventually(a.t, "more is published on "+channel, func() bool { return len(a.rec.of(channel)) >= n })
}

// eventSource does what a browser's does: it comes back with its last id.
type eventSource struct {
	*sseclient.Stream
	a      *apps
	node   int // where it is
	path   string
	header http.Header
	got    []shown
	loose  bool // what came last had no id: it would come again
	again  bool // what it has got comes again, from here on; below 0: that is to be seen
	at     int
}

// source opens a path at a node; header lines are "Name: value".
func (a *apps) source(node int, path string, header ...string) *eventSource {
	a.t.Helper()
	e := &eventSource{a: a, node: node, path: path, header: http.Header{}}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		e.header.Add(name, value)
	}
	e.connect("")
	return e
}

// safe is source, from the first position on: nothing that follows may come twice.
func (a *apps) safe(node int, path string, header ...string) *eventSource {
	a.t.Helper()
	e := a.source(node, path, header...)
	positioned(a.t, e.Stream)
	return e
}

func (e *eventSource) connect(lastID string) {
	e.a.t.Helper()
	e.Stream = openWith(e.a.t, e.a.url(e.node)+e.path, sseclient.Options{Header: e.header, LastEventID: lastID})
	e.loose = false
}

// comesBack leaves, when nothing that it has got would come again, and comes back to
// the other node.
func (e *eventSource) comesBack() {
	e.a.t.Helper()
	e.settles()
	e.Close()
	e.returns()
}

// settles reads on until what came last had an id.
func (e *eventSource) settles() {
	e.a.t.Helper()
	for i := 0; e.loose; i++ {
		if e.reads(1); i == 10_000 {
			e.a.t.Fatalf("%s: no event has an id", e.path)
		}
	}
}

// returns connects to the other node.
func (e *eventSource) returns() {
	e.a.t.Helper()
	e.node = 1 - e.node
	e.connect(e.LastEventID())
}

// reads takes n events more.
func (e *eventSource) reads(n int) {
	e.a.t.Helper()
	for n += len(e.got); len(e.got) < n; {
		if err := e.take(next(e.a.t, e.Stream)); err != nil {
			e.a.t.Fatalf("%s: %v", e.path, err)
		}
	}
}

// take takes an event. Gaps are wrong, but on a slow machine NATS may let the bridge wait
// so long that it has to begin a term: whoever comes back with a position from just
// before that is told, and gets some of it again.
func (e *eventSource) take(ev sseclient.Event) error {
	if ev.Name == "gap" {
		if !strings.Contains(ev.Data, `"reason":"upstream"`) || !strings.Contains(e.a.bridge.output(), "no acknowledgement for") {
			return fmt.Errorf("gap %s", ev.Data)
		}
		e.again, e.at = true, -1
		return nil
	}
	e.loose = !ev.HasID
	one := shown{ev.Name, ev.Data}
	if e.again && e.at < 0 {
		for e.at = len(e.got) - 1; e.at >= 0 && e.got[e.at] != one; e.at-- {
		}
		e.again = e.at >= 0
	}
	if e.again = e.again && e.at < len(e.got) && e.got[e.at] == one; e.again {
		e.at++
		return nil
	}
	e.got = append(e.got, one)
	return nil
}

// gets reads the rest of what it is to get in all, and nothing else: each of these lists
// in its order.
func (e *eventSource) gets(want ...[]shown) {
	e.a.t.Helper()
	e.reads(max(0, len(slices.Concat(want...))-len(e.got)))
	if why := mixed(e.got, want...); why != "" {
		e.a.t.Fatalf("%s: %s", e.path, why)
	}
}
