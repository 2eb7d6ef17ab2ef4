package main

import (
	"context"
	"io"
	"log/slog"
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
		stocks: /SLCE\s+\d+\.\d\d\s+[▲▼=] \d+\.\d\d\s+\d+/,
		chat: /(alice|bob|carol|dave|erin) \S/,
		bills: /bill-\d+\s+€[\d,]+\.\d\d\s+(received|checked|approved|rejected|scheduled|paid)/,
		orders: /(received|way|Delivered)\n.*[Oo]rder \d+/,
		game: /^(?=[^]*p1)(?=[^]*p2)(?=[^]*p3)(?=[^]*p4)[^]*(moves to \d+, \d+|4 players, \d+ moves)$/,
		log: /live only\n?game:room1[^]*{"/,
	};
	return [...document.querySelectorAll("main section")].filter(c =>
		!cards[c.id].test(c.innerText.trim()) || /undefined|NaN|null/.test(c.innerText)).map(c => c.id);
})()`

// heights is a script that tells where everything is, which events must not change.
const heights = `[...document.querySelectorAll("header, section")].map(c => c.id + " " + c.offsetTop + "+" + c.offsetHeight).join(", ")`

// tooWide is a script that lists what sticks out of its card.
const tooWide = `[...document.querySelectorAll("section")].filter(c => c.scrollWidth > c.clientWidth).map(c => c.id)`

// The demo page in a real browser, on a phone and a desktop, light and dark:
// events come in, all cards fill, nothing moves or is wider than the window, and
// no error is on the console. When the server is gone the page says so. With
// SLUICE_SCREENSHOTS=<dir> the pictures are kept.
func TestDemoPage(t *testing.T) {
	chromium := embedded.NeedProgram(t, "chromium")
	cfg := localConfig()
	cfg.Local.Rate = 10
	l, err := newLocal(cfg, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(run); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
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
	}{{"light", 1280, 1400}, {"dark", 1280, 1400}, {"light", 390, 2600}, {"dark", 390, 2600}} {
		var state, before, after string
		var scroll int64
		var wide []string
		var picture []byte
		err := chromedp.Run(ctx,
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}),
			chromedp.EmulateViewport(look.width, look.height),
			chromedp.Navigate(site),
			// Every card has come alive, and the log has the latest events.
			chromedp.Poll(`document.querySelectorAll("#log li").length > 30 && `+unfinishedCards+`.length === 0`, nil,
				chromedp.WithPollingTimeout(wait), chromedp.WithPollingInterval(100*time.Millisecond)),
			chromedp.Evaluate(heights, &before),
			chromedp.Sleep(2*time.Second),
			chromedp.Evaluate(heights, &after),
			chromedp.Text("#state", &state),
			chromedp.Evaluate(`document.documentElement.scrollWidth`, &scroll),
			chromedp.Evaluate(tooWide, &wide),
			chromedp.CaptureScreenshot(&picture),
		)
		name := look.scheme + "-" + strconv.FormatInt(look.width, 10)
		if err != nil {
			var unfinished []string
			_ = chromedp.Run(ctx, chromedp.Evaluate(unfinishedCards, &unfinished))
			t.Fatalf("%s: %v (cards without their content: %v)", name, err, unfinished)
		}
		if !regexp.MustCompile(`^connected to node\d · \d+ events per second · \d+ ms `).MatchString(state) {
			t.Errorf("%s: the page says %q", name, state)
		}
		if scroll > look.width || len(wide) > 0 {
			t.Errorf("%s: the page is %d wide, too wide for their cards are %v", name, scroll, wide)
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
	cancel()
	wg.Wait()
	var picture []byte
	err = chromedp.Run(ctx,
		chromedp.Poll(`document.querySelector("#state").innerText.includes("the browser is coming back by itself")`, nil,
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
func browser(t *testing.T, path string) (context.Context, func()) {
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stopBrowser := chromedp.NewContext(alloc)
	ctx, stopTime := context.WithTimeout(ctx, 4*wait)
	return ctx, func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close the browser: %v", err)
		}
		stopTime()
		stopBrowser()
		stopAlloc()
	}
}
