package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// watching is put before each page's own script: what its EventSource is told, for the
// test to look at. The page is as it is.
const watching = `(() => {
	window.opened = 0; window.gaps = 0; window.ids = [];
	window.EventSource = class extends EventSource {
		constructor(...args) {
			super(...args);
			this.addEventListener("open", () => opened++);
			this.addEventListener("gap", () => gaps++);
			for (const name of ["message", "notification", "broadcast", "group-message", "item-added", "item-changed", "item-removed", "breaking-news"])
				this.addEventListener(name, e => ids.push(e.lastEventId));
		}
	};
})()`

// ided is true once events have ids: from then on none comes twice.
const ided = `ids.length > 2 && ids.at(-1) !== ids.at(-2) && ids.at(-2) !== ids.at(-3)`

// appPages are pages of the apps in a browser.
type appPages struct {
	*pages
	apps *apps
}

func newAppPages(t *testing.T, env ...string) *appPages {
	t.Helper()
	p := newPages(t, 2, append([]string{"SSENODE_RETRY=200ms", "SSENODE_HEARTBEAT=1s"}, env...)...)
	p.mux.Handle("GET /apps/", http.FileServer(http.Dir("testdata")))
	return &appPages{pages: p}
}

// row runs the test of one row, with a record of its own.
func (p *appPages) row(t *testing.T, name string, f func(t *testing.T, p *appPages)) {
	t.Run(name, func(t *testing.T) {
		s, of := *p.site, *p.pages
		s.t, of.site = t, &s
		f(t, &appPages{&of, &apps{site: &s, rec: newRecord(t, p.client)}})
	})
}

// open opens a page of testdata/apps in a tab of its own, and waits until it is
// connected.
func (p *appPages) open(t *testing.T, path string, query ...string) *tab {
	t.Helper()
	values := url.Values{"host": {p.server}}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	b := p.newTab(t, p.origin.URL+path+"?"+values.Encode(), chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := cdppage.AddScriptToEvaluateOnNewDocument(watching).Do(ctx)
		return err
	}))
	t.Cleanup(func() {
		var text string
		if t.Failed() && b.ctx.Err() == nil {
			_ = chromedp.Run(b.ctx, chromedp.Evaluate(`JSON.stringify([opened, gaps, ids.slice(-5)]) + document.body.innerText.slice(-500)`, &text))
			t.Logf("%s shows: %s", path, text)
		}
	})
	b.until(`opened === 1`)
	return b
}

// interrupt cuts all connections once events have ids, and waits until the pages, which
// do nothing for it, are connected again and get events.
func (p *appPages) interrupt(tabs []*tab) {
	for _, b := range tabs {
		b.until(ided)
		b.run(`window.before = opened`, nil)
	}
	for _, hop := range p.hops {
		hop.Cut()
	}
	for _, b := range tabs {
		b.until(`opened > before`)
		b.run(`before = ids.length`, nil)
		b.until(`ids.length > before + 10`)
	}
}

// lines waits until a page's list shows what it is to show, no more and no less: the
// lines of each channel in order.
func (b *tab) lines(list string, want ...[]string) {
	b.t.Helper()
	script := fmt.Sprintf(`[...document.querySelectorAll("#%s li")].map(li => li.textContent)`, list)
	b.until(fmt.Sprintf(`%s.length >= %d`, script, len(slices.Concat(want...))))
	var got []string
	b.run(script, &got)
	if why := mixed(got, want...); why != "" {
		b.t.Fatal(why)
	}
	var gaps int
	if b.run(`gaps`, &gaps); gaps != 0 {
		b.t.Errorf("%d gaps", gaps)
	}
}

// fields is what a page shows of events, a line for each: these fields of their data.
// "a|b" is the first that is there, "=x" is x, and "name" is the event's name.
func fields(events []shown, keys ...string) (lines []string) {
	for _, ev := range events {
		var data map[string]any
		if err := json.Unmarshal([]byte(ev.data), &data); err != nil {
			panic(err) // it is what our own scenarios publish
		}
		data["name"] = cmp.Or(ev.name, "message")
		var words []string
		for _, key := range keys {
			word := ""
			for k := range strings.SplitSeq(key, "|") {
				v, there := data[k]
				if text, literal := strings.CutPrefix(k, "="); literal {
					v, there = text, true
				}
				if there {
					word = fmt.Sprint(v)
					break
				}
			}
			words = append(words, word)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

// each is fields for several channels.
func each(channels [][]shown, keys ...string) (lists [][]string) {
	for _, events := range channels {
		lists = append(lists, fields(events, keys...))
	}
	return lists
}

// plays lets publishers publish, while the tabs' connections break twice.
func (p *appPages) plays(scenarios string, tabs ...*tab) {
	p.t.Helper()
	stop := p.apps.play(2, 200, strings.Fields(scenarios)...)
	p.interrupt(tabs)
	p.interrupt(tabs)
	stop()
}
