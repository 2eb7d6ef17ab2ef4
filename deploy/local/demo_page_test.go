package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"sluice/shared/embedded"
)

// demoPages are tabs with the demo page of one local run.
type demoPages struct {
	*pages
	t    *testing.T
	l    *local
	site string
}

func newDemoPages(t *testing.T, cfg config) *demoPages {
	t.Helper()
	chromium := embedded.NeedProgram(t, "chromium")
	l, _ := runLocal(t, cfg, io.Discard)
	ctx, stop := browser(t, chromium)
	t.Cleanup(stop)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return &demoPages{pages: &pages{ctx: ctx}, t: t, l: l, site: "http://" + browsable(l.front.ln.Addr())}
}

// demoTab opens the page and waits until events come.
func (p *demoPages) demoTab(t *testing.T) *tab {
	t.Helper()
	b := p.newTab(t, p.site)
	t.Cleanup(func() {
		if t.Failed() && b.ctx.Err() == nil {
			var text string
			_ = chromedp.Run(b.ctx, chromedp.Evaluate(`["#way", "#channels", "#chat", "#orders"].map(s => document.querySelector(s).innerText).join("\n--\n")`, &text))
			t.Logf("the page:\n%s", text)
		}
	})
	b.says("#state", "connected to node")
	return b
}

// says waits until an element has a text.
func (b *tab) says(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%q)`, selector, text))
}

// click clicks as a person does: on what is to be seen and is not disabled.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%q)?.checkVisibility() && !document.querySelector(%[1]q).disabled`, selector))
	b.run(fmt.Sprintf(`document.querySelector(%q).click()`, selector), nil)
}

// enter puts a text into a field and sends its form.
func (b *tab) enter(selector, text string) {
	b.t.Helper()
	b.run(fmt.Sprintf(`{ const f = document.querySelector(%q); f.value = %q; f.form.requestSubmit(); }`, selector, text), nil)
}

// Channels come and go on the page while it is connected, offered ones and others.
func TestDemoPicks(t *testing.T) {
	p := newDemoPages(t, localConfig())
	b := p.demoTab(t)
	pressed := `[...document.querySelectorAll("#picks button[aria-pressed=true]")].map(b => b.textContent).join(" ")`
	pick := func(name string) {
		b.run(fmt.Sprintf(`[...document.querySelectorAll("#picks button")].find(b => b.textContent === %q).click()`, name), nil)
	}
	came := func(name string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#log li span:nth-child(2)")].some(s => s.textContent === %q)`, name)
	}
	b.until(came("chat:demo"))
	connects := p.connects()
	pick("auction:2")
	b.until(came("auction:2"))
	pick("auction:1")
	b.until(`document.querySelector("#auction").classList.contains("off")`)
	b.enter("#another", "mine:1")
	b.says("#picks", "mine:1")
	b.until(pressed + `.endsWith("auction:2 mine:1")`)
	until(t, "the stream has the channel", func() bool {
		postTo(t, p.site+"/publish/mine:1", "by hand")
		var ok bool
		b.run(came("mine:1"), &ok)
		return ok
	})
	if n := p.connects(); n != connects {
		t.Errorf("%d connections for channels that come and go, %d before", n, connects)
	}
	pick("stocks:*") // a pattern: it connects anew
	b.until(`document.querySelector("#stocks").classList.contains("off")`)
	// When the last of its events was pushed out of the log, no more come.
	b.until(`![...document.querySelectorAll("#log li span:nth-child(2)")].some(s => s.textContent.startsWith("stocks:"))`)
	b.until(`document.querySelector("#lost").innerText === "0"`)
}

// connects are the streams that the nodes have begun.
func (p *demoPages) connects() int { return p.sum("connects_total") }

// sum is a metric of the nodes, added up.
func (p *demoPages) sum(name string) (n int) {
	for _, node := range p.l.nodes {
		_, text := fetch(p.t, "http://"+node.hello.Admin+"/metrics")
		_, rest, _ := strings.Cut(text, "\nsluice_ssenode_"+name+" ")
		one, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
		if err != nil {
			p.t.Fatalf("%s: %v", name, err)
		}
		n += one
	}
	return n
}

// Two tabs chat, by a POST, Redis and one connection that they share.
func TestDemoChat(t *testing.T) {
	p := newDemoPages(t, localConfig())
	a := p.demoTab(t)
	b := p.demoTab(t)
	a.enter("#text", "hello <b>there</b>")
	b.says("#chat .said", "hello <b>there</b>")
	a.says("#chat .mine", "hello <b>there</b>")
	b.run(`{ const f = document.querySelector("#from"); f.value = "berta"; f.dispatchEvent(new Event("change")); }`, nil)
	b.enter("#text", "hello yourself")
	a.until(`[...document.querySelectorAll("#chat .said:not(.mine)")].some(li => li.innerText === "berta hello yourself")`)
	// Simulated talk does not push it away.
	a.until(`document.querySelectorAll("#chat li:not(.said)").length >= 4`)
	a.says("#chat .mine", "hello <b>there</b>")
	until(t, "one stream for both tabs", func() bool { return p.streams() == 1 })
}

// streams are those that go through the front.
func (p *demoPages) streams() int {
	p.l.front.mu.Lock()
	defer p.l.front.mu.Unlock()
	return len(p.l.front.streams)
}

// Who is signed in as alice gets what is for her, and nobody else does.
func TestDemoSignIn(t *testing.T) {
	p := newDemoPages(t, localConfig())
	anonymous := p.demoTab(t)
	anonymous.click("#peek")
	anonymous.says("#who", "the node answers 401 Unauthorized (token missing)")
	alice, bob := p.demoTab(t), p.demoTab(t)
	bob.run(`document.querySelector("#user").value = "bob"`, nil)
	for name, b := range map[string]*tab{"alice": alice, "bob": bob} {
		b.click("#enter")
		b.says("#who", "signed in as "+name)
	}
	alice.click("#note")
	alice.says("#orders .lines", "A note")
	alice.says("#orders .lines", "for alice alone")
	bob.click("#note")
	bob.says("#orders .lines", "for bob alone")
	for name, b := range map[string]*tab{"nobody": anonymous, "bob": bob} {
		var text string
		b.run(`document.querySelector("#orders .lines").innerText + [...document.querySelectorAll("#log li")].map(li => li.innerText).join("\n")`, &text)
		if strings.Contains(text, "user:alice") || strings.Contains(text, "alice alone") {
			t.Errorf("%s reads what is for alice:\n%s", name, text)
		}
	}
	alice.click("#enter")
	alice.says("#who", "only who is signed in may read it")
	alice.until(`document.querySelector("#orders .lines").innerText === "…" || document.querySelector("#orders .lines").children.length === 0`)
	alice.says("#enter", "Sign in")
	until(t, "her stream is closed", func() bool { return p.streams() == 2 })
}

// The connection is dropped, the node killed, the leading bridge killed: each time the
// page goes on by itself, shows what was made up for, and has lost nothing.
func TestDemoResumes(t *testing.T) {
	cfg := localConfig()
	cfg.Local.Rate = 10
	p := newDemoPages(t, cfg)
	b := p.demoTab(t)
	b.says("#bridges", "hot standby")
	b.until(`+document.querySelector("#checked").innerText.replace(",", "") > 100`)
	goesOn := func(cause string) (text string) {
		t.Helper()
		b.until(fmt.Sprintf(`[...document.querySelectorAll("#breaks li")].some(li => li.innerText.includes(%q))`, cause))
		b.run(fmt.Sprintf(`[...document.querySelectorAll("#breaks li")].find(li => li.innerText.includes(%q)).innerText`, cause), &text)
		if !strings.Contains(text, "nothing lost") || strings.Contains(text, " 0 made up for") {
			t.Errorf("%s: the page says %q", cause, text)
		}
		t.Logf("%s", text)
		return text
	}
	b.click("#drop")
	goesOn("dropped the connection")
	var node string
	b.run(`document.querySelector("#node").innerText`, &node)
	b.click("#kill-node")
	// On a slow machine it has been started again before the page comes back.
	if text := goesOn("killed " + node + ", process "); !strings.Contains(text, node+" → node") && !strings.Contains(text, node+" · ") {
		t.Errorf("after its node was killed the page says %q", text)
	}
	b.says("#nodes", "you are here")
	b.until(`!document.querySelector("#nodes .gone")`)
	b.says("#bridges", "hot standby")
	b.click("#kill-bridge")
	goesOn("killed bridge")
	b.until(`!document.querySelector("#bridges .gone")`)
	b.says("#bridges", "hot standby")
	for name, width := range map[string]int64{"resumed-1280": 1280, "resumed-390": 390} {
		var picture []byte
		if err := chromedp.Run(b.ctx, chromedp.EmulateViewport(width, 844), chromedp.FullScreenshot(&picture, 100)); err != nil {
			t.Fatal(err)
		}
		keep(t, name, picture)
	}
	var lost string
	if b.run(`document.querySelector("#lost").innerText`, &lost); lost != "0" {
		t.Errorf("lost: %s", lost)
	}
}
