package publisher

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Scenario is an app of today that can be played.
type Scenario struct {
	Name     string // on the command line
	App      string // the row of the table of apps
	Channels string // names in Redis, with {placeholders}
	Events   string // what is told apart in its payloads

	build func(size int) scenario
}

// Scenarios lists all that can be played, in the order of "all".
func Scenarios() []Scenario {
	return []Scenario{
		{"race", "race", "race-events:{urlSlug}", "type: race-start, player-update, checkpoint, race-finish", newRaces},
		{"leaderboard", "leaderboard", "leaderboard:{urlSlug}", "type: score-update, rank-change", newBoards},
		{"auction", "auction", "auction:{auctionId}", "type: bid-placed, auction-end", newAuctions},
		{"game", "multiplayer game", "game:{roomId}:{playerId}, game:{roomId}", "type: player-move, game-state", newGames},
		{"bills", "bill status", "billStatusChannel", "status: received, checked, approved, rejected, scheduled, paid", newBills},
		{"orders", "orders", "user:{userId}", "event notification; data.type: order_placed, order_paid, order_shipped, order_delivered", newOrders},
		{"notifications", "notifications", "user:{userId}", "event notification; data.type: message, mention, invitation", newNotifications},
		{"items", "generic hub", "items:{urlSlug}", "event: item-added, item-changed, item-removed", newItems},
		{"service", "Spring-style service", "sse:channel:{clientId}, sse:broadcast, sse:group:{group}", "event: notification, broadcast, group-message", newServices},
		{"notices", "conditional messages", "notices", "message.type: for-all, for-admins, for-staff, for-beta-admins", newNotices},
		{"alerts", "priority", "alerts:{urlSlug}, updates:{urlSlug}, trivia:{urlSlug}", "type: alert, update, trivia", newAlerts},
		{"dashboards", "dashboards", "dashboard:{urlSlug}", "one kind", newDashboards},
		{"chat", "chat rooms", "chat:{room}", "event message", newChats},
		{"stocks", "stock prices", "stocks:{symbol}", "one kind", newStocks},
		{"news", "breaking news", "news:{section}", "event breaking-news", newNews},
		{"jobs", "job progress", "jobs:{jobId}", "status: queued, running, done, failed", newJobs},
	}
}

// AllScenarios stands for each of them.
const AllScenarios = "all"

// find returns the scenarios of these names, each once.
func find(names []string) ([]Scenario, error) {
	all := Scenarios()
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	var list []Scenario
	for _, s := range all {
		if wanted[s.Name] || wanted[AllScenarios] || len(names) == 0 {
			list = append(list, s)
		}
		delete(wanted, s.Name)
	}
	delete(wanted, AllScenarios)
	for _, n := range names {
		if wanted[n] {
			return nil, fmt.Errorf("scenario %q: want %s or %s", n, strings.Join(scenarioNames(), ", "), AllScenarios)
		}
	}
	return list, nil
}

func scenarioNames() (names []string) {
	for _, s := range Scenarios() {
		names = append(names, s.Name)
	}
	return names
}

// names gives n names: the known ones first, which pages and documents rely on,
// then "<prefix><number>".
func names(n int, prefix string, known ...string) []string {
	list := make([]string, n)
	for i := range list {
		if i < len(known) {
			list[i] = known[i]
		} else {
			list[i] = fmt.Sprint(prefix, i+1)
		}
	}
	return list
}

// slugs name worlds: demo, demo-2, demo-3, …
func slugs(n int) []string { return names(n, "demo-", "demo") }

// people take part in races, auctions and chats, whatever the size.
func people() []string { return []string{"alice", "bob", "carol", "dave", "erin"} }

// pick chooses one of a list, to change it in place.
func pick[T any](r *rand.Rand, list []T) *T { return &list[r.IntN(len(list))] }

// each makes the state behind each name.
func each[T any](names []string, build func(name string) T) []T {
	list := make([]T, len(names))
	for i, n := range names {
		list[i] = build(n)
	}
	return list
}

// between is a random whole number from low to high, both included.
func between(r *rand.Rand, low, high int) int { return low + r.IntN(high-low+1) }

// euros writes cents as a JSON number with two decimals.
type euros int64

func (e euros) MarshalJSON() ([]byte, error) {
	sign := ""
	if e < 0 {
		sign, e = "-", -e
	}
	return fmt.Appendf(nil, "%s%d.%02d", sign, e/100, e%100), nil
}
