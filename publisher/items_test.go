package publisher

import "testing"

// Only what is there changes or goes.
func TestItemsComeAndGo(t *testing.T) {
	there := map[string]bool{}
	most, now := 0, 0
	for _, m := range hear(t, "items", 1000, 1) {
		id := m.str("itemId")
		if there[id] == (m.event == "item-added") || (m.num("quantity") > 0) == (m.event == "item-removed") {
			t.Fatalf("%s of what is there: %v: %s", m.event, there[id], m.raw)
		}
		switch m.event {
		case "item-added":
			there[id], now = true, now+1
		case "item-removed":
			there[id], now = false, now-1
		}
		most = max(most, now)
	}
	if most < 3 || most > itemsMost {
		t.Errorf("%d at once", most)
	}
}

// A run is queued, makes headway and is over, in this order.
func TestJobsMakeHeadway(t *testing.T) {
	type state struct {
		run, percent float64
		over         bool
	}
	jobs := map[string]*state{}
	ends := map[string]int{}
	for _, m := range hear(t, "jobs", 2000, 2) {
		s := jobs[m.channel]
		if s == nil {
			s = &state{over: true}
			jobs[m.channel] = s
		}
		status, percent := m.str("status"), m.num("percent")
		good := map[string]bool{
			"queued":  s.over && percent == 0,
			"running": !s.over && percent > s.percent && percent <= 100,
			"done":    !s.over && percent == 100 && s.percent == 100,
			"failed":  !s.over && percent == s.percent && percent < 100,
		}[status]
		if status == "queued" {
			s.run++
		}
		if !good || m.num("run") != s.run || m.channel != "jobs:"+m.str("jobId") {
			t.Fatalf("after %+v on %s: %s", *s, m.channel, m.raw)
		}
		s.percent, s.over = percent, status == "done" || status == "failed"
		ends[status]++
	}
	if ends["done"] < 20 || ends["failed"] < 5 {
		t.Errorf("%v", ends)
	}
}

// Whom a notice is for stands in its criteria, which no client sees, and the type says
// the same. Nothing else has criteria.
func TestNoticesHaveCriteria(t *testing.T) {
	want := map[string]string{
		"for-all": `{}`, "for-admins": `{"role":"admin"}`,
		"for-staff": `{"role":["admin","editor"]}`, "for-beta-admins": `{"role":"admin","beta":true}`,
	}
	for _, name := range scenarioNames() {
		for _, m := range hear(t, name, 100, 2) {
			if name != "notices" && m.criteria != "" || name == "notices" && m.criteria != want[m.str("type")] {
				t.Fatalf("%s: criteria %s of %s", name, m.criteria, m.raw)
			}
		}
	}
}

// What service says to a client, a group or all is said on its channel.
func TestServiceSaysToWhom(t *testing.T) {
	channel := map[string]string{"broadcast": "sse:broadcast", "notification": "sse:channel:", "group-message": "sse:group:"}
	for _, m := range hear(t, "service", 300, 3) {
		to := m.str("text")[len("to "):]
		if m.event == "broadcast" {
			to = ""
		}
		if m.channel != channel[m.event]+to {
			t.Fatalf("%s on %s: %s", m.event, m.channel, m.raw)
		}
	}
}

// Of what can wait there is more than of what cannot.
func TestAlertsAreRare(t *testing.T) {
	kinds := map[string]int{}
	for _, m := range hear(t, "alerts", 2000, 3) {
		kinds[m.str("type")]++
	}
	if kinds["alert"] == 0 || kinds["alert"] > kinds["update"]/3 || kinds["update"] > kinds["trivia"] {
		t.Errorf("%v", kinds)
	}
}

func TestDashboardsStayInBounds(t *testing.T) {
	for _, m := range hear(t, "dashboards", 1000, 3) {
		if r, e, cpu := m.num("requestsPerSecond"), m.num("errorsPerSecond"), m.num("cpuPercent"); r < 0 || r > dashboardMost || e < 0 || e > r/100 || cpu < 0 || cpu > 100 {
			t.Fatalf("%s", m.raw)
		}
	}
}
