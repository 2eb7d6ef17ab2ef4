package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sluice/shared/embedded"
)

// plainHost is this machine by a name that no browser takes for it: over http its pages
// are in no secure context.
const plainHost = "page.example"

// pages are browser tabs on a page that uses sluice.js, of another host than the
// nodes, which it reaches through a front that spreads connections. Each node is
// behind a hop that can fail.
type pages struct {
	*site
	hops   []*embedded.Proxy
	server string // URL of the front
	origin *httptest.Server
	mux    *http.ServeMux // of the origin
	ctx    context.Context
}

func newPages(t *testing.T, nodes int, env ...string) *pages {
	t.Helper()
	chromium := embedded.NeedProgram(t, "chromium")
	p := &pages{site: newSite(t, embedded.NATSProcessOptions{}, nodes, env...)}
	var addrs []string
	for _, addr := range p.site.addrs() {
		hop := embedded.TestProxy(t, addr)
		p.hops = append(p.hops, hop)
		addrs = append(addrs, hop.Addr())
	}
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/client/page.html") })
	p.origin = httptest.NewServer(p.mux)
	t.Cleanup(p.origin.Close)
	p.server = frontOf(t, addrs, "")
	ctx, stop := browser(t, chromium, chromedp.Flag("host-resolver-rules", "MAP "+plainHost+" 127.0.0.1"))
	p.ctx = ctx
	t.Cleanup(stop)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// connections are the streams that the nodes have now.
func (p *pages) connections() (n float64) {
	for _, node := range p.nodes {
		n += node.metric("sluice_ssenode_connections")
	}
	return n
}

// tab is one tab, with a Sluice once it has begun.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()
}

func (p *pages) tab(t *testing.T) *tab {
	t.Helper()
	return p.tabAt(t, p.origin.URL)
}

func (p *pages) tabAt(t *testing.T, url string) *tab {
	t.Helper()
	b := p.newTab(t, url)
	t.Cleanup(func() {
		if t.Failed() && b.ctx.Err() == nil {
			var text string
			_ = chromedp.Run(b.ctx, chromedp.Evaluate(`JSON.stringify({got: got.slice(-20), gaps, states: states.slice(-20), errors})`, &text))
			t.Logf("tab: %s", text)
		}
	})
	b.until("window.ready")
	return b
}

// newTab opens a page.
func (p *pages) newTab(t *testing.T, url string, before ...chromedp.Action) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	b := &tab{t: t, ctx: ctx}
	b.close = sync.OnceFunc(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close a tab: %v", err)
		}
		cancel()
	})
	t.Cleanup(b.close)
	if err := chromedp.Run(ctx, append(before, chromedp.Navigate(url))...); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a script in the tab and waits for its promise; res may be nil.
func (b *tab) run(script string, res any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, wait)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.Evaluate(script, res, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if err != nil && err != chromedp.ErrJSUndefined {
		b.t.Fatalf("%s: %v", script, err)
	}
}

// begin makes a Sluice with the options, and listens to channels.
func (b *tab) begin(server, options string, channels ...string) {
	b.t.Helper()
	b.run(fmt.Sprintf(`(async () => { const { Sluice } = await import("%s/sluice.js"); begin(Sluice, %s); for (const c of %s) sluice.subscribe(c, note); })()`,
		server, options, toJSON(channels)), nil)
}

// until waits for an expression to be true.
func (b *tab) until(script string) {
	b.t.Helper()
	eventually(b.t, script, func() (ok bool) {
		ctx, cancel := context.WithTimeout(b.ctx, wait)
		defer cancel()
		if err := chromedp.Run(ctx, chromedp.Evaluate("!!("+script+")", &ok)); err != nil {
			b.t.Fatalf("%s: %v", script, err)
		}
		return ok
	})
}

func (b *tab) open() {
	b.t.Helper()
	b.until(`sluice.status.state === "open"`)
}

// positioned waits until nothing can be lost any more.
func (b *tab) positioned() {
	b.t.Helper()
	b.open()
	b.until(`sluice.lastEventId`)
}

// numbers publishes numbers on channels until stopped; the function returns how many.
func (s *site) numbers(channels ...string) (stop func() int) {
	return s.payloads(func(n int) string { return fmt.Sprint(n) }, channels...)
}

// payloads publishes payloads, numbered from 0, on channels until stopped; the function
// returns how many.
func (s *site) payloads(payload func(n int) string, channels ...string) (stop func() int) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for _, c := range channels {
				s.publish(c, payload(n))
			}
			n++
		}
	})
	once := sync.OnceFunc(func() { close(done); wg.Wait() })
	s.t.Cleanup(once)
	return func() int { once(); return n }
}

// settled is true when the node gives ids: what came without one may come again.
const settled = `got.at(-1)?.id`

// settle publishes on a channel until the tab's node gives ids, and then forgets
// what came.
func (b *tab) settle(p *pages, channel string) {
	b.t.Helper()
	stop := p.numbers(channel)
	b.until(settled)
	b.until(fmt.Sprintf(`got.at(-1)?.data === %d`, stop()-1))
	b.run(`got.length = 0`, nil)
}

// sequence is what a tab must have got of a channel: all numbers, each once, in order.
func (b *tab) sequence(channel string, n int) {
	b.t.Helper()
	of := fmt.Sprintf(`got.filter(e => e.channel === %q)`, channel)
	b.until(fmt.Sprintf(`%s.length >= %d`, of, n))
	var wrong string
	b.run(of+`.map((e, i) => e.data === i ? "" : i + ": " + e.data + " " + e.id).filter(s => s).slice(0, 5).join(", ")`, &wrong)
	if wrong != "" {
		b.t.Errorf("%s: %s", channel, wrong)
	}
}
