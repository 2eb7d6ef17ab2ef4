package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// balanced is an installation behind a balancer, and browsers of it.
type balanced struct {
	*site
	*balancer
	t     *testing.T
	http1 *http.Client
	http2 *http.Client
}

// newBalanced puts the nodes behind a balancer. One node may stand in all three places.
func newBalanced(t *testing.T, s *site, name, publisher string) *balanced {
	t.Helper()
	var nodes, admins []string
	for i := range 3 {
		i %= len(s.nodes)
		nodes = append(nodes, strings.TrimPrefix(s.url(i), "http://"))
		admins = append(admins, strings.TrimPrefix(s.nodes[i].admin(), "http://"))
	}
	b := &balanced{site: s, t: t, balancer: newBalancer(t, name, nodes, admins, publisher)}
	b.http1, b.http2 = b.balancer.client(false, "127.0.0.1"), b.balancer.client(true, "127.0.0.1")
	return b
}

// stream is one through the balancer, up to its first position.
func (b *balanced) stream(client *http.Client, query string) *sseclient.Stream {
	b.t.Helper()
	st := openWith(b.t, b.balancer.url+"/events?"+query, sseclient.Options{Client: client})
	positioned(b.t, st)
	return st
}

// What holds through each balancer, with the programs as they are deployed.
func TestBalancers(t *testing.T) {
	for _, name := range balancers {
		embedded.NeedProgram(t, name)
	}
	idle := idleThrough(t)
	for _, name := range balancers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, embedded.NATSProcessOptions{}, 3, "SSENODE_HEARTBEAT=1s", "SSENODE_RETRY=200ms", "SSENODE_DRAIN_DELAY=4s", "SSENODE_LINGER=200ms")
			_, addr := s.poster()
			b := newBalanced(t, s, name, addr)
			for _, part := range []struct {
				name string
				f    func(*balanced)
			}{
				{"AtOnce", atOnce}, {"Posts", postsThrough}, {"Page", pageThrough},
				{"Faults", faultsBehind}, // the last: it kills and stops nodes
			} {
				if !t.Run(part.name, func(t *testing.T) {
					c, s, l := *b, *b.site, *b.balancer
					s.t, l.t = t, t
					c.t, c.site, c.balancer = t, &s, &l
					part.f(&c)
				}) {
					return
				}
			}
		})
	}
	idle()
}

// A stream's head, and each single event, comes through as it does from the node.
func atOnce(b *balanced) {
	const tries = 15
	// The best, and one that a quarter are better than: this machine has other work, too.
	measure := func(how string, open func() *sseclient.Stream) (head, event time.Duration) {
		var heads, events []time.Duration
		for range tries {
			began := time.Now()
			st := open()
			heads = append(heads, time.Since(began))
			st.Close()
		}
		st := open()
		if ev := next(b.t, st); ev.Name != "connected" {
			b.t.Fatalf("first event %+v", ev)
		}
		positioned(b.t, st)
		for i := range tries {
			began := time.Now()
			b.publish("once", fmt.Sprint(i))
			want(b.t, st, "", fmt.Sprint(i)) // before the next one is published
			events = append(events, time.Since(began))
		}
		st.Close()
		slices.Sort(heads)
		slices.Sort(events)
		b.t.Logf("%s: head %v, event %v", how, heads[0], events[tries/4])
		return heads[0], events[tries/4]
	}
	head, event := measure("the node", func() *sseclient.Stream {
		st, err := sseclient.Open(b.t.Context(), b.site.url(0)+"/events?channel=once", sseclient.Options{})
		if err != nil {
			b.t.Fatal(err)
		}
		return st
	})
	for how, client := range map[string]*http.Client{"HTTP/1.1": b.http1, "HTTP/2": b.http2} {
		h, e := measure(how, func() *sseclient.Stream {
			st, err := sseclient.Open(b.t.Context(), b.balancer.url+"/events?channel=once&token="+secret, sseclient.Options{Client: client})
			if err != nil {
				b.t.Fatal(err)
			}
			return st
		})
		if h-head > 100*time.Millisecond || e-event > 100*time.Millisecond {
			b.t.Errorf("%s: %v later for the head, %v for an event", how, h-head, e-event)
		}
	}
	until(b.t, "streams are logged", func() bool { return strings.Contains(b.Output(), "/events ") })
}

// What a page posts reaches the publisher under the path and the host that it came
// with, and everything else the nodes.
func postsThrough(b *balanced) {
	for i, name := range []string{"a", "a/b", "//x/", "a b", "%2F", "..", "../a", "ü", "\xff", "*", "?", "a?b#c;d&e=f+g", ""} {
		client := []*http.Client{b.http1, b.http2}[i%2]
		st := b.stream(client, "channel="+url.QueryEscape(name))
		for _, client := range []*http.Client{b.http1, b.http2} {
			if got := postBy(b.t, client, b.balancer.url+"/publish/"+strings.ReplaceAll(url.PathEscape(name), ".", "%2E"), "to it", "Origin: "+b.balancer.url); !strings.HasPrefix(got, `200 {"success":true,"recipients":`) {
				b.t.Errorf("%q: %s", name, got)
			} else {
				want(b.t, st, "", "to it")
			}
		}
		st.Close()
	}
	st := b.stream(b.http2, "channel=x//y/./z&channel=sse:broadcast&channel=c")
	for _, p := range [][3]string{
		{"/publish/x//y/./z", "raw", "raw"},
		{"/broadcast", `{"event":"e","data":1}`, "1"},
		{"/notify?recipients=0", `{"channel":"c","event":"e","data":2}`, "2"},
		{"/publish?token=" + secret, `[{"channel":"c","data":"list"}]`, "list"},
	} {
		if got := postBy(b.t, b.http2, b.balancer.url+p[0], p[1], "Origin: "+b.balancer.url); !strings.HasPrefix(got, "200 ") {
			b.t.Errorf("%s: %s", p[0], got)
		} else if ev := next(b.t, st); ev.Data != p[2] {
			b.t.Errorf("%s: %+v", p[0], ev)
		}
	}
	for path, wanted := range map[string]string{
		"/publishx": "404 ", "/notify/x": "404 ", // of a node: the publisher's has "success"
		"/subscribe": "400 ",
	} {
		if got := postBy(b.t, b.http2, b.balancer.url+path, "{}"); !strings.HasPrefix(got, wanted) || strings.Contains(got, "success") {
			b.t.Errorf("%s: %s", path, got)
		}
	}
	if got := postBy(b.t, b.http2, b.balancer.url+"/broadcast", `{"event":"e","data":1}`, "Origin: https://elsewhere.example"); !strings.HasPrefix(got, "403 ") {
		b.t.Errorf("from another page: %s", got)
	}
	if got := postBy(b.t, b.http1, b.balancer.url+"/publish/large", strings.Repeat("x", 1<<20-200)); !strings.HasPrefix(got, "200 ") {
		b.t.Errorf("a large one: %s", got)
	}
}

// A page has more streams than the six connections that a browser opens: one
// connection, by HTTP/2.
func pageThrough(b *balanced) {
	ctx, stop := browser(b.t, embedded.NeedProgram(b.t, "chromium"), chromedp.Flag("ignore-certificate-errors", true))
	defer stop()
	page := &tab{t: b.t, ctx: ctx}
	if err := chromedp.Run(ctx, chromedp.Navigate(b.balancer.url+"/version")); err != nil {
		b.t.Fatal(err)
	}
	const streams = 20
	page.run(fmt.Sprintf(`window.opened = 0; window.got = []; window.all = [];
		for (let i = 0; i < %d; i++) {
			const s = new EventSource("/events?channel=page:" + i);
			s.onopen = () => opened++;
			s.onmessage = e => got.push(i + " " + e.data);
			all.push(s);
		}`, streams), nil)
	page.until(fmt.Sprintf("opened === %d", streams))
	for i := range streams {
		b.publish(fmt.Sprint("page:", i), "x")
	}
	page.until(fmt.Sprintf("new Set(got).size === %d", streams))
	var protocol string
	if page.run(`performance.getEntriesByType("navigation")[0].nextHopProtocol`, &protocol); protocol != "h2" {
		b.t.Errorf("the page came by %q", protocol)
	}
	page.run(`for (const s of all) s.close()`, nil)
}
