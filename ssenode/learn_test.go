package ssenode

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/shared/channel"
	"sluice/shared/wire"
)

// Patterns are asked for several at a time, and each gets its own place.
func TestPlacesOfPatterns(t *testing.T) {
	t.Parallel()
	// Without JetStream, so that nobody else answers.
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(wait) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	h := newHistory(nc, wire.Stream{Name: "MANY", Prefix: "sluice"})
	var held []*nats.Msg
	answer := func(m *nats.Msg, subject string, seq int) {
		_ = m.Respond([]byte(fmt.Sprintf(`{"message":{"subject":%q,"seq":%d}}`, subject, seq)))
	}
	_, err = nc.Subscribe("$JS.API.STREAM.MSG.GET.MANY", func(m *nats.Msg) {
		var req getRequest
		if err := json.Unmarshal(m.Data, &req); err != nil {
			t.Error(err)
		}
		if req.LastFor == ">" {
			answer(m, "sluice.log.$pulse", 900)
			return
		}
		if held = append(held, m); len(held) < patternsAtOnce/2 {
			return // until others have come
		}
		for _, m := range held {
			var i int
			_ = json.Unmarshal(m.Data, &req)
			_, _ = fmt.Sscanf(req.LastFor, "sluice.log.p%d", &i)
			answer(m, fmt.Sprintf("sluice.log.p%d.x", i), i)
		}
		held = nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var patterns []*topic
	for i := range 10 * patternsAtOnce {
		p, err := channel.ParsePattern(fmt.Sprintf("p%d:*", i+1))
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, &topic{pattern: p})
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	places, err := h.placesOf(ctx, patterns)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range places {
		if p.topic != patterns[i] || p.last != uint64(i+1) || p.upTo != 900 {
			t.Fatalf("place %d is %d of %d, of pattern %s", i, p.last, p.upTo, p.topic.name())
		}
	}
}
