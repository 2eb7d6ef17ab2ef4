package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The app "race": an existing address mapped to a channel by template, each world for
// itself. Its events are unnamed and of four types.
func TestAppRace(t *testing.T) {
	t.Parallel()
	a := newApps(t, appEndpoints, appRoutes)
	one, two := a.safe(0, "/api/events/race?urlSlug=demo"), a.safe(1, "/api/events/race?urlSlug=demo-2")
	stranger := a.safe(0, "/api/events/race?urlSlug=*")
	stop := a.play(2, 400, "race")
	one.reads(100)
	one.comesBack()
	one.reads(100)
	stop()
	// Beside the world, and as plain as it can be.
	a.publish("race-events:demo:inside", "no")
	a.publish("race-events:", "no")
	a.publish("race-events:demo", `{"type":"race-start","timestamp":"2026-11-21T12:00:00.120Z","raceId":"r1"}`)
	a.publish("race-events:demo-2", `{"type":"race-finish","timestamp":"2026-11-21T12:00:00.120Z","raceId":"r2"}`)
	a.publish("race-events:*", "to the world with that name")
	a.recorded()
	one.gets(a.rec.of("race-events:demo"))
	two.gets(a.rec.of("race-events:demo-2"))
	stranger.gets([]shown{{"", "to the world with that name"}})
	types := map[string]bool{}
	for _, ev := range one.got {
		var e struct{ Type, Timestamp, RaceID string }
		if err := json.Unmarshal([]byte(ev.data), &e); err != nil || ev.name != "" || e.Timestamp == "" || e.RaceID == "" {
			t.Fatalf("%+v: %v", ev, err)
		}
		types[e.Type] = true
	}
	if len(types) != 4 || !types["race-start"] || !types["checkpoint"] || !types["race-finish"] || !types["player-update"] {
		t.Errorf("types %v", types)
	}
	for query, says := range map[string]string{"": "urlSlug", "?urlSlug=demo:inside": "urlSlug"} {
		if code, body := fetch(t, a.url(0)+"/api/events/race"+query); code != 400 || !strings.Contains(body, says) {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
}

// The app "leaderboard": at most one update a second, and the latest wins.
func TestAppLeaderboard(t *testing.T) {
	t.Parallel()
	a := newApps(t, appEndpoints, appRoutes)
	boards := []*eventSource{a.safe(0, "/api/events/leaderboard?urlSlug=demo"), a.safe(1, "/api/events/leaderboard?urlSlug=demo")}
	began := time.Now()
	stop := a.play(1, 300, "leaderboard")
	for _, b := range boards {
		b.reads(3)
	}
	stop()
	all := a.rec.of("leaderboard:demo")
	latest := all[len(all)-1]
	for _, b := range boards {
		for len(b.got) == 0 || b.got[len(b.got)-1] != latest {
			b.reads(1)
		}
		// One at once and one at the end of each second begun.
		if most := int(time.Since(began)/time.Second) + 2; len(b.got) > most {
			t.Errorf("%d of %d updates in %s", len(b.got), len(all), time.Since(began))
		}
		place := -1
		for _, ev := range b.got {
			i := slices.Index(all, ev)
			if i <= place {
				t.Errorf("%+v is number %d, after %d", ev, i, place)
			}
			place = i
		}
	}
	// Whoever comes back gets the latest of what was missed, alone.
	boards[0].Close()
	for i := range 5 {
		a.publish("leaderboard:demo", fmt.Sprint("score ", i))
	}
	had := len(boards[1].got)
	until(t, "it is held back no longer", func() bool { boards[1].reads(1); return boards[1].got[len(boards[1].got)-1].data == "score 4" })
	boards[0].got = nil
	boards[0].returns()
	// On a slow machine more than a second had passed since the last update: then one of
	// these was given out before, and is in the node's ring.
	for _, before := range boards[1].got[had : len(boards[1].got)-1] {
		if boards[0].reads(1); boards[0].got[0] != before {
			break
		}
		boards[0].got = nil
	}
	boards[0].gets([]shown{{"", "score 4"}})
}

// The app "auction": order, nothing lost, the last bid counts: with the page going to
// and fro, and with its node killed.
func TestAppAuction(t *testing.T) {
	t.Parallel()
	a := newApps(t, appEndpoints, appRoutes)
	one, two := a.safe(0, "/api/events/auction?auctionId=1"), a.safe(1, "/api/events/auction?auctionId=2")
	stop := a.play(2, 800, "auction")
	for range 6 {
		one.reads(150)
		one.comesBack()
	}
	if one.settles(); one.node != 0 {
		t.Fatal("it is at the other node")
	}
	_ = a.nodes[0].cmd.Process.Kill()
	<-a.nodes[0].done
	a.goesOn("auction:1", 100) // bids that it misses
	one.returns()
	one.reads(300)
	stop()
	a.publish("auction:1", `{"type":"bid-placed","amount":1000000}`)
	a.recorded()
	one.gets(a.rec.of("auction:1"))
	two.gets(a.rec.of("auction:2"))
	if last := one.got[len(one.got)-1].data; last != `{"type":"bid-placed","amount":1000000}` {
		t.Errorf("the last bid is %s", last)
	}
	t.Logf("%d bids", len(one.got))
}

// The app "multiplayer game": one connection for the room and for all its players, by
// a pattern; live only: whoever comes back gets nothing late.
func TestAppGame(t *testing.T) {
	t.Parallel()
	a := newApps(t, appEndpoints, appRoutes)
	pages := []*eventSource{
		a.source(0, "/api/events/game?room=room1"),
		a.source(1, "/events?channel=game:room1&pattern=game:room1:*"),
	}
	mine := a.source(1, "/events?channels=game:room1,game:room1:p1,game:room2:p2")
	stop := a.play(2, 2000, "game")
	for range 2000 {
		ev := next(t, pages[0].Stream)
		if pages[0].got = append(pages[0].got, shown{ev.Name, ev.Data}); ev.HasID || ev.Name != "" {
			t.Fatalf("%+v", ev)
		}
	}
	stop()
	for _, p := range pages {
		p.gets(a.rec.of("game:room1", "game:room1:*"))
	}
	mine.gets(a.rec.of("game:room1", "game:room1:p1", "game:room2:p2"))
	gone := pages[0]
	gone.Close()
	a.publish("game:room1:p1", "late")
	mine.reads(1) // it has passed the nodes
	gone.got = nil
	gone.returns()
	a.publish("game:room1:p1", "now")
	gone.reads(1)
	if gone.got[0].data != "now" {
		t.Errorf("late comes %+v", gone.got)
	}
}

// The app "bill status": the present status at once, then changes.
func TestAppBillStatus(t *testing.T) {
	t.Parallel()
	a := newApps(t, appEndpoints, appRoutes)
	stop := a.play(3, 200, "bills")
	until(t, "there are some", func() bool { return len(a.rec.of("billStatusChannel")) > 20 })
	stop()
	before := a.rec.of("billStatusChannel")
	present := before[len(before)-1]
	until(t, "the bridge has mirrored it", func() bool {
		_, body := fetch(t, a.url(0)+"/poll?channel=billStatusChannel")
		var answer struct{ Events []struct{ Data string } }
		return json.Unmarshal([]byte(body), &answer) == nil && len(answer.Events) == 1 && answer.Events[0].Data == present.data
	})
	for node := range a.nodes {
		page := a.source(node, "/getBillStatus")
		page.gets([]shown{present})
		positioned(t, page.Stream)
		stop = a.play(3, 200, "bills")
		page.reads(20)
		page.comesBack()
		page.reads(20)
		stop()
		all := a.rec.of("billStatusChannel")
		page.gets(all[slices.Index(all, present):])
		present = all[len(all)-1]
	}
}
