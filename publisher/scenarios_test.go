package publisher

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/shared/event"
)

// told is a message as a page sees it, and whom it is for.
type told struct {
	channel  string
	event    string
	data     map[string]any
	raw      []byte
	criteria string
}

func (m told) str(key string) string  { s, _ := m.data[key].(string); return s }
func (m told) num(key string) float64 { n, _ := m.data[key].(float64); return n }

// hear plays a scenario and checks what holds for all of them: JSON in an object,
// on a channel of the table, with a time and with a sequence number that counts
// the channel's messages.
func hear(t *testing.T, name string, n, size int) []told {
	t.Helper()
	list, err := find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	channel := channelPattern(list[0])
	seqs := map[string]float64{}
	var heard []told
	for _, m := range take(playing(t, name, SimulateOptions{Size: size}), n) {
		ev, err := event.Parse(m.payload, event.Auto)
		if err != nil {
			t.Fatal(err)
		}
		got := told{channel: m.channel, event: ev.Name, raw: ev.Data, criteria: string(ev.Criteria)}
		if err := json.Unmarshal(ev.Data, &got.data); err != nil {
			t.Fatalf("%s: %v", m.payload, err)
		}
		if !channel.MatchString(m.channel) {
			t.Errorf("channel %q, want %s", m.channel, channel)
		}
		seqs[m.channel]++
		if got.num("seq") != seqs[m.channel] {
			t.Errorf("%s: seq %v, want %v", m.channel, got.data["seq"], seqs[m.channel])
		}
		if got.str("timestamp") != "2026-11-21T12:00:00.120Z" {
			t.Errorf("timestamp %v", got.data["timestamp"])
		}
		heard = append(heard, got)
	}
	return heard
}

// channelPattern is a scenario's Channels as an expression.
func channelPattern(s Scenario) *regexp.Regexp {
	var alternatives []string
	for c := range strings.SplitSeq(s.Channels, ", ") {
		alternatives = append(alternatives, regexp.MustCompile(`\{\w+\}`).ReplaceAllString(c, `[\w-]+`))
	}
	return regexp.MustCompile("^(" + strings.Join(alternatives, "|") + ")$")
}

// Pages, tests and documents rely on these names.
func TestChannelNames(t *testing.T) {
	f := func(name string, size int, want ...string) {
		t.Helper()
		got := map[string]bool{}
		for _, m := range hear(t, name, 200*size, size) {
			got[m.channel] = true
		}
		slices.Sort(want)
		if list := slices.Sorted(maps.Keys(got)); !slices.Equal(list, want) {
			t.Errorf("%s of size %d: %q, want %q", name, size, list, want)
		}
	}
	f("race", 1, "race-events:demo")
	f("race", 3, "race-events:demo", "race-events:demo-2", "race-events:demo-3")
	f("leaderboard", 2, "leaderboard:demo", "leaderboard:demo-2")
	f("auction", 2, "auction:1", "auction:2")
	f("game", 1, "game:room1", "game:room1:p1", "game:room1:p2", "game:room1:p3", "game:room1:p4")
	f("bills", 3, "billStatusChannel")
	f("orders", 1, "user:alice")
	f("orders", 7, "user:alice", "user:bob", "user:carol", "user:dave", "user:erin", "user:user6", "user:user7")
	f("notifications", 1, "user:frank")
	f("notifications", 7, "user:frank", "user:grace", "user:heidi", "user:ivan", "user:judy", "user:reader6", "user:reader7")
	f("items", 2, "items:demo", "items:demo-2")
	f("service", 1, "sse:broadcast", "sse:channel:client1", "sse:group:staff")
	f("notices", 3, "notices")
	f("alerts", 1, "alerts:demo", "updates:demo", "trivia:demo")
	f("dashboards", 2, "dashboard:demo", "dashboard:demo-2")
	f("news", 2, "news:world", "news:economy")
	f("jobs", 2, "jobs:job1", "jobs:job2")
	f("chat", 2, "chat:demo", "chat:demo-2")
	f("stocks", 6, "stocks:SLCE", "stocks:GOFR", "stocks:EVNT", "stocks:PUBS", "stocks:NODE", "stocks:SYM6")
}

// The table of scenarios tells all kinds of events, and no others.
func TestEventsAreThoseOfTheTable(t *testing.T) {
	for _, s := range Scenarios() {
		kinds := map[string]bool{}
		for _, m := range hear(t, s.Name, 2000, 3) {
			switch s.Name {
			case "bills":
				kinds[m.str("status")] = true
			case "jobs":
				kinds[m.str("status")] = true
			case "items", "service":
				kinds[m.event] = true
				continue
			case "chat", "stocks", "dashboards", "news":
				kinds["one"] = true
			default:
				kinds[m.str("type")] = true
			}
			wantName := map[string]string{"orders": "notification", "notifications": "notification", "chat": "message", "news": "breaking-news"}[s.Name]
			if m.event != wantName {
				t.Errorf("%s: event %q, want %q", s.Name, m.event, wantName)
			}
		}
		_, listed, found := strings.Cut(s.Events, ": ")
		if !found {
			listed = "one"
		}
		want := strings.Split(listed, ", ")
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", s.Name, got, want)
		}
	}
}

// A race starts, everybody makes headway, passes each quarter once, and when all
// have arrived it ends with them in the order of arrival.
func TestRaceIsBelievable(t *testing.T) {
	type state struct {
		race     string
		distance map[string]float64
		arrived  []any
	}
	races := map[string]*state{}
	finishes := 0
	for _, m := range hear(t, "race", 2000, 3) {
		if want := "race-events:" + m.str("urlSlug"); m.channel != want {
			t.Fatalf("an event of %s on %s", want, m.channel)
		}
		s := races[m.channel]
		kind, who, distance := m.str("type"), m.str("playerId"), m.num("distance")
		if kind == "race-start" {
			if s != nil || len(m.data["players"].([]any)) != 5 {
				t.Fatalf("start in mid-race or without players: %s", m.raw)
			}
			races[m.channel] = &state{race: m.str("raceId"), distance: map[string]float64{}}
			continue
		}
		if s == nil || m.str("raceId") != s.race {
			t.Fatalf("outside its race: %s", m.raw)
		}
		if kind == "race-finish" {
			if got := m.data["ranking"].([]any); len(got) != 5 || fmt.Sprint(got) != fmt.Sprint(s.arrived) {
				t.Fatalf("ranking %v, arrived %v", got, s.arrived)
			}
			races[m.channel] = nil
			finishes++
			continue
		}
		before := s.distance[who]
		passed := int(distance)/250 > int(before)/250
		if distance <= before || distance > 1000 || passed != (kind == "checkpoint") || passed && m.num("checkpoint") != float64(int(distance)/250) {
			t.Fatalf("after %v: %s", before, m.raw)
		}
		s.distance[who] = distance
		ahead := 0
		for _, d := range s.distance {
			if d > distance {
				ahead++
			}
		}
		if distance == 1000 {
			s.arrived = append(s.arrived, who)
			ahead = len(s.arrived) - 1
		}
		if place := int(m.num("place")); place < ahead+1 || place > 5 {
			t.Fatalf("%d are ahead: %s", ahead, m.raw)
		}
	}
	if finishes < 10 {
		t.Errorf("%d races in 2000 events", finishes)
	}
}

func TestLeaderboardIsRight(t *testing.T) {
	scores := map[string]map[string]float64{}
	ranks := map[string]map[string]float64{}
	for _, m := range hear(t, "leaderboard", 1000, 3) {
		if scores[m.channel] == nil {
			scores[m.channel], ranks[m.channel] = map[string]float64{}, map[string]float64{}
		}
		who := m.str("playerId")
		standing := m.data["leaderboard"].([]any)
		at := standing[int(m.num("rank"))-1].(map[string]any)
		sorted := slices.IsSortedFunc(standing, func(a, b any) int {
			return int(b.(map[string]any)["score"].(float64) - a.(map[string]any)["score"].(float64))
		})
		if len(standing) != 5 || !sorted || at["playerId"] != who || at["score"] != m.data["score"] {
			t.Fatalf("%s", m.raw)
		}
		grew := m.num("score") > scores[m.channel][who]
		if m.str("type") == "score-update" && !grew || m.str("type") == "rank-change" && (grew || m.num("previousRank") <= m.num("rank")) {
			t.Fatalf("had %v: %s", scores[m.channel][who], m.raw)
		}
		scores[m.channel][who] = m.num("score")
	}
}

// Bids rise, the last one wins, and the next lot begins.
func TestAuctionIsBelievable(t *testing.T) {
	type state struct{ lot, amount, bids, ends float64 }
	auctions := map[string]state{}
	last := map[string]string{}
	for _, m := range hear(t, "auction", 1000, 3) {
		s := auctions[m.channel]
		if m.channel != "auction:"+m.str("auctionId") {
			t.Fatalf("on %s: %s", m.channel, m.raw)
		}
		switch {
		case m.str("type") == "auction-end":
			if m.num("lot") != s.lot || m.num("amount") != s.amount || m.num("bids") != s.bids || m.str("winner") != last[m.channel] || s.bids == 0 {
				t.Fatalf("last bid %+v by %s: %s", s, last[m.channel], m.raw)
			}
			s = state{lot: s.lot, ends: s.ends + 1}
		case s.bids == 0:
			if m.num("lot") != s.lot+1 || m.num("bids") != 1 {
				t.Fatalf("lot %v is sold: %s", s.lot, m.raw)
			}
			s = state{lot: m.num("lot"), amount: m.num("amount"), bids: 1, ends: s.ends}
		default:
			if m.num("lot") != s.lot || m.num("amount") <= s.amount || m.num("bids") != s.bids+1 {
				t.Fatalf("after %+v: %s", s, m.raw)
			}
			s.amount, s.bids = m.num("amount"), m.num("bids")
		}
		last[m.channel] = m.str("bidder")
		auctions[m.channel] = s
	}
	for c, s := range auctions {
		if s.ends < 3 {
			t.Errorf("%s: %v lots sold", c, s.ends)
		}
	}
}

func TestGameIsBelievable(t *testing.T) {
	at := map[string][2]float64{}
	for _, m := range hear(t, "game", 1000, 2) {
		room := m.str("roomId")
		if m.str("type") == "player-move" {
			if m.channel != "game:"+room+":"+m.str("playerId") {
				t.Fatalf("on %s: %s", m.channel, m.raw)
			}
			at[m.channel] = [2]float64{m.num("x"), m.num("y")}
			continue
		}
		players := m.data["players"].([]any)
		if m.channel != "game:"+room || len(players) != 4 {
			t.Fatalf("on %s: %s", m.channel, m.raw)
		}
		for _, p := range players {
			p := p.(map[string]any)
			pos, moved := at[m.channel+":"+p["playerId"].(string)]
			if moved && pos != [2]float64{p["x"].(float64), p["y"].(float64)} {
				t.Fatalf("player is at %v: %s", pos, m.raw)
			}
		}
	}
}

func TestBillsTakeTheirSteps(t *testing.T) {
	status := map[string]string{}
	for _, m := range hear(t, "bills", 1000, 3) {
		id, now, before := m.str("billId"), m.str("status"), status[m.str("billId")]
		if now != billSteps[before] && !(before == "checked" && now == "rejected") || m.num("amount") <= 0 {
			t.Fatalf("after %q: %s", before, m.raw)
		}
		status[id] = now
	}
	if len(status) < 100 {
		t.Errorf("%d bills in 1000 steps", len(status))
	}
}

func TestOrdersTakeTheirSteps(t *testing.T) {
	next := map[string]int{}
	owner := map[string]string{}
	for _, m := range hear(t, "orders", 500, 3) {
		id := m.str("orderId")
		if owner[id] == "" {
			owner[id] = m.channel
		}
		if i := next[id]; i >= len(orderSteps) || m.str("type") != orderSteps[i].kind || owner[id] != m.channel {
			t.Fatalf("step %d of an order on %s: %s on %s", i, owner[id], m.raw, m.channel)
		}
		next[id]++
	}
}

func TestStocksWalk(t *testing.T) {
	price := map[string]float64{}
	for _, m := range hear(t, "stocks", 1000, 3) {
		before, now := price[m.channel], m.num("price")
		if m.channel != "stocks:"+m.str("symbol") || now < 1 || before != 0 && (now < 0.98*before || now > 1.02*before) {
			t.Fatalf("after %v: %s", before, m.raw)
		}
		price[m.channel] = now
	}
}

func TestChatIsSaidInItsRoom(t *testing.T) {
	for _, m := range hear(t, "chat", 300, 3) {
		if m.channel != "chat:"+m.str("room") || m.str("from") == "" || m.str("text") == "" {
			t.Fatalf("on %s: %s", m.channel, m.raw)
		}
	}
}
