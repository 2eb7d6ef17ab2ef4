package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sluice/shared/embedded"
)

// unfinishedCards is a script that lists the cards that do not show yet what
// their channels bring, or show a field that is not there.
const unfinishedCards = `(() => {
	const cards = {
		race: /alice\n(\d+ m|place \d)[^]*(starts|won by \w+|place \d)$/,
		leaderboard: /^[^]*?((alice|bob|carol|dave|erin)\n\d+\s+){5}.* rank /,
		auction: /€[\d,]+\.\d\d[^]*lot \d+(, bid \d+ by| sold to) [a-e][a-z]+/,
		stocks: /SLCE\s+\d+\.\d\d\s+[▲▼=] \d+\.\d\d/,
		chat: /(alice|bob|carol|dave|erin) \S/,
		bills: /bill-\d+\s+€[\d,]+\.\d\d\s+(received|checked|approved|rejected|scheduled|paid)/,
		orders: /signed in as alice, on node\d[^]*(received|way|Delivered)\n.*[Oo]rder \d+/,
		game: /^(?=[^]*p1)(?=[^]*p2)(?=[^]*p3)(?=[^]*p4)[^]*(moves to \d+, \d+|4 players, \d+ moves)$/,
		news: /^Breaking news.*\n(\s*(world|economy|science) \S[^]*){2}/,
		jobs: /job\d, run \d+\s+(\d+ %|queued|done|failed)/,
		dashboard: /requests a second\s+\d+\s+errors a second\s+\d+\s+processor, %\s+\d+/,
		items: /item-\d+ (comes|changes|goes)\s+item-\d+\s+\d+ pieces/,
		alerts: /urgent\s+\S[^]*\s+normal\s+The lift works again\.\s+\d+\s+can wait\s+It is warm today\.\s+\d+/,
		notices: /as a guest: only those for all\s+for-all The site moves at noon\./,
		service: /Tell all\s+Tell me/,
		presence: /\d+ connections? on all nodes\s+guest-\w+\s+node\d\s+\d\d:\d\d:\d\d/,
		log: /no id\n?game:room1[^]*{"/,
		way: /^(?=[^]*bridge\d\s+leader)(?=[^]*bridge\d\s+hot standby)(?=[^]*node\d\s+you are here)(?=[^]*node\d\s+serves)[^]*connected to node\d[^]*last id\s+\w+-\d+[^]*\d ms/,
		channels: /race-events:demo\n[^]*leaderboard:demo-2\n/,
	};
	return [...document.querySelectorAll("main section")].filter(c =>
		!cards[c.id].test(c.innerText.trim()) || /undefined|NaN|null/.test(c.innerText)).map(c => c.id);
})()`

// heights is a script that tells where everything is, which events must not change.
const heights = `[...document.querySelectorAll("header, section")].map(c => c.id + " " + c.offsetTop + "+" + c.offsetHeight).join(", ")`

// tooWide is a script that lists what sticks out of what it is in, or out of the
// window, and is not cut off on purpose.
const tooWide = `[...document.querySelectorAll("body *:not(svg *)")].filter(e => {
	const cut = getComputedStyle(e).overflowX !== "visible", box = e.getBoundingClientRect();
	return e.clientWidth && (!cut || getComputedStyle(e).overflowX === "auto") && e.scrollWidth > e.clientWidth + 1
		|| box.width && (box.right > innerWidth + 1 || box.left < -1) && !e.parentElement.closest(".bars, .lines, .rows, .events");
}).map(e => e.tagName + "#" + e.id + "." + e.className + " " + e.innerText?.slice(0, 30))`

// overlapping is a script that lists what is upon something else: cards, what stands in
// them side by side, buttons and fields. Bars glide past each other, and may.
const overlapping = `(() => {
	const found = [];
	const check = list => {
		const boxes = [...list].map(e => [e, e.getBoundingClientRect()]).filter(([, b]) => b.width && b.height);
		boxes.forEach(([e, a], i) => boxes.slice(i + 1).forEach(([f, b]) => {
			if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
				found.push(e.tagName + "#" + e.id + " " + e.innerText?.slice(0, 20) + " and " + f.tagName + "#" + f.id + " " + f.innerText?.slice(0, 20));
		}));
	};
	for (const e of document.querySelectorAll("body, main, section, .way, .way > li, .figures, .figures div, .buttons, .break, .workers, .workers li, .picks, form, table, thead tr, tbody tr, .events li")) check(e.children);
	check(document.querySelectorAll("button, input, select"));
	return found;
})()`

// cutOff is a script that lists texts that are not to be cut off, and are.
const cutOff = `[...document.querySelectorAll("h1, h2, h3, dt, dd, button, .workers span, th, td, .way p, .break, #orders .last, .more ~ .card .last")].filter(e =>
	e.scrollWidth > e.clientWidth + 1 && e.clientWidth || e.scrollHeight > e.clientHeight + 3 && e.matches("button, .way p, .workers span")).map(e => e.tagName + " " + e.innerText)`

// The demo page in a real browser, on a phone, a tablet and a desktop, light and dark:
// events come in, all cards fill, nothing moves or is wider than the window, and
// no error is on the console. When the server is gone the page says so. With
// SLUICE_SCREENSHOTS=<dir> the pictures are kept.
func TestDemoPage(t *testing.T) {
	chromium := embedded.NeedProgram(t, "chromium")
	cfg := localConfig()
	cfg.Local.Rate = 10
	l, end := runLocal(t, cfg, io.Discard)
	ctx, stop := browser(t, chromium)
	defer stop()
	var mu sync.Mutex
	var console []string
	chromedp.ListenTarget(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			console = append(console, ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.APITypeError {
				console = append(console, string(ev.Args[0].Value))
			}
		case *cdplog.EventEntryAdded: // what the browser itself complains about
			if ev.Entry.Level == cdplog.LevelError {
				console = append(console, ev.Entry.Text+" "+ev.Entry.URL)
			}
		}
	})
	site := "http://" + browsable(l.front.ln.Addr())
	for _, look := range []struct {
		scheme        string
		width, height int64
	}{{"light", 1280, 900}, {"dark", 1280, 900}, {"light", 390, 844}, {"dark", 390, 844}, {"light", 900, 1100}} {
		var state, before, after string
		var scroll int64
		var wide, upon, cut []string
		var picture []byte
		err := chromedp.Run(ctx,
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}),
			chromedp.EmulateViewport(look.width, look.height),
			chromedp.Navigate(site),
			chromedp.Poll(`document.querySelector("#state").innerText.startsWith("connected")`, nil, chromedp.WithPollingTimeout(wait)),
			chromedp.Click("#enter"),
			// Every card has come alive, and the log has the latest events.
			chromedp.Poll(`document.querySelectorAll("#log li").length > 30 && `+unfinishedCards+`.length === 0`, nil,
				chromedp.WithPollingTimeout(wait), chromedp.WithPollingInterval(100*time.Millisecond)),
			chromedp.Evaluate(heights, &before),
			chromedp.Sleep(2*time.Second),
			chromedp.Evaluate(heights, &after),
			chromedp.Text("#state", &state),
			chromedp.Evaluate(`document.documentElement.scrollWidth`, &scroll),
			chromedp.Evaluate(tooWide, &wide),
			chromedp.Evaluate(overlapping, &upon),
			chromedp.Evaluate(cutOff, &cut),
			chromedp.FullScreenshot(&picture, 100),
		)
		name := look.scheme + "-" + strconv.FormatInt(look.width, 10)
		if err != nil {
			var unfinished []string
			_ = chromedp.Run(ctx, chromedp.Evaluate(unfinishedCards, &unfinished))
			t.Fatalf("%s: %v (cards without their content: %v)", name, err, unfinished)
		}
		if !regexp.MustCompile(`^connected to node\d, \d+ events per second$`).MatchString(state) {
			t.Errorf("%s: the page says %q", name, state)
		}
		if scroll > look.width || len(wide)+len(upon)+len(cut) > 0 {
			t.Errorf("%s: the page is %d wide, too wide are %q, upon each other %q, cut off %q", name, scroll, wide, upon, cut)
		}
		if before != after {
			t.Errorf("%s: the page moves while events come:\n%s\n%s", name, before, after)
		}
		keep(t, name, picture)
	}
	mu.Lock()
	if len(console) > 0 {
		t.Errorf("errors on the console: %q", console)
	}
	mu.Unlock()
	end()
	var picture []byte
	err := chromedp.Run(ctx,
		chromedp.Poll(`document.querySelector("#state").innerText.includes("it comes back by itself")`, nil,
			chromedp.WithPollingTimeout(wait), chromedp.WithPollingInterval(100*time.Millisecond)),
		chromedp.CaptureScreenshot(&picture))
	if err != nil {
		t.Fatalf("without a server: %v", err)
	}
	keep(t, "lost", picture)
}

// keep saves a picture when one asked for them.
func keep(t *testing.T, name string, picture []byte) {
	t.Helper()
	dir := os.Getenv("SLUICE_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "demo-"+name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// browser starts a headless Chromium with a fresh profile.
func browser(t *testing.T, path string, more ...chromedp.ExecAllocatorOption) (context.Context, func()) {
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), append(opts, more...)...)
	ctx, stopBrowser := chromedp.NewContext(alloc)
	ctx, stopTime := context.WithTimeout(ctx, 8*wait) // for all of a test; each step has its own limit
	return ctx, func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close the browser: %v", err)
		}
		stopTime()
		stopBrowser()
		stopAlloc()
	}
}
