package main

import (
	"slices"
	"sync"
	"testing"
)

// The apps without needs of their own: dashboards, chat rooms, stock prices, breaking
// news, job progress. Each page gets exactly what its channels say, rooms are for
// themselves, patterns are feeds of all, and one message goes to very many.
func TestAppFeeds(t *testing.T) {
	t.Parallel()
	a := newApps(t, "ROUTES=> history=5000/10m")
	type page struct {
		*eventSource
		channels []string
	}
	var pages []page
	open := func(path string, channels ...string) {
		for node := range a.nodes {
			pages = append(pages, page{a.safe(node, path), channels})
		}
	}
	open("/events?channel=chat:demo", "chat:demo")
	open("/events?channel=chat:demo-2", "chat:demo-2")
	open("/events?channel=stocks:SLCE&channel=stocks:GOFR", "stocks:SLCE", "stocks:GOFR")
	open("/events?pattern=stocks:*", "stocks:*")
	open("/events/news:world", "news:world")
	open("/events?pattern=news:*&channel=news:world", "news:*")
	open("/events/jobs:job1", "jobs:job1")
	open("/events?channel=dashboard:demo&channel=jobs:job2&channel=chat:demo&pattern=news:%3E", "dashboard:demo", "jobs:job2", "chat:demo", "news:*")
	for i := range 300 {
		pages = append(pages, page{a.source(i%2, "/events?channel=dashboard:demo"), []string{"dashboard:demo"}})
	}
	for _, p := range pages { // once all are there: each waits for a pulse
		positioned(t, p.Stream)
	}
	var reading sync.WaitGroup
	stop := a.play(3, 150, "dashboards", "chat", "stocks", "news", "jobs")
	for i, p := range pages {
		if i%3 == 0 { // one after the other, while all is going on
			p.reads(3)
			p.comesBack()
		}
	}
	for _, p := range pages[:16] {
		until(t, "there are enough", func() bool { return len(a.rec.of(p.channels...)) >= 20 })
	}
	stop()
	for _, p := range pages {
		want := a.rec.each(p.channels...)
		count := len(slices.Concat(want...))
		reading.Go(func() {
			for len(p.got) < count {
				ev, err := p.NextData(wait)
				if err == nil {
					err = p.take(ev)
				}
				if err != nil {
					t.Errorf("%s: %d of %d: %v", p.path, len(p.got), count, err)
					return
				}
			}
			if why := mixed(p.got, want...); why != "" {
				t.Errorf("%s: %s", p.path, why)
			}
		})
	}
	reading.Wait()
	// Nothing more.
	for _, c := range []string{"chat:demo", "chat:demo-2", "stocks:SLCE", "news:world", "jobs:job1", "dashboard:demo"} {
		a.publish(c, "end of "+c)
	}
	for _, p := range pages[:2] {
		want(t, p.Stream, "", "end of "+p.channels[0])
	}
	for _, p := range pages[len(pages)-300:] {
		want(t, p.Stream, "", "end of dashboard:demo")
	}
}
