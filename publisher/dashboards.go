package publisher

import "math/rand/v2"

// dashboards show how a system is doing; each event has all of it.
type dashboards struct{ list []dashboard }

type dashboard struct {
	slug string
	rate int // requests per second
}

type dashboardEvent struct {
	Requests int `json:"requestsPerSecond"`
	Errors   int `json:"errorsPerSecond"`
	CPU      int `json:"cpuPercent"`
	stamp
}

// dashboardMost is the rate at which the processors are busy all the time.
const dashboardMost = 2000

func newDashboards(size int) scenario {
	return &dashboards{each(slugs(size), func(slug string) dashboard { return dashboard{slug, dashboardMost / 2} })}
}

func (s *dashboards) next(r *rand.Rand) act {
	d := pick(r, s.list)
	d.rate = min(dashboardMost, max(0, d.rate+between(r, -100, 100)))
	return act{channel: "dashboard:" + d.slug, data: &dashboardEvent{
		Requests: d.rate, Errors: r.IntN(1 + d.rate/100), CPU: 100 * d.rate / dashboardMost,
	}}
}
