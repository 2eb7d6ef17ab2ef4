package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sluice/shared/embedded"
)

// emptyCards is a script that lists the cards in which nothing has come yet.
const emptyCards = `[...document.querySelectorAll("main section")].filter(c =>
	!c.querySelector("circle") && c.innerText.replace(c.querySelector("h2").innerText, "").trim().length < 3).map(c => c.id)`

// The demo page in a real browser, on a phone and a desktop, light and dark:
// events come in, all cards fill, nothing is wider than the window, and no
// error is on the console. With SLUICE_SCREENSHOTS=<dir> the pictures are kept.
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
		}
	})
	site := "http://" + browsable(l.front.ln.Addr())
	for _, look := range []struct {
		scheme        string
		width, height int64
	}{{"light", 1280, 1400}, {"dark", 1280, 1400}, {"light", 390, 2600}, {"dark", 390, 2600}} {
		var state string
		var inner, scroll float64
		var picture []byte
		err := chromedp.Run(ctx,
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}),
			chromedp.EmulateViewport(look.width, look.height),
			chromedp.Navigate(site),
			// Every card has come alive, and the log has the latest events.
			chromedp.Poll(`document.querySelectorAll("#log li").length > 30 && `+emptyCards+`.length === 0`, nil,
				chromedp.WithPollingTimeout(wait), chromedp.WithPollingInterval(100*time.Millisecond)),
			chromedp.Text("#state", &state),
			chromedp.Evaluate(`innerWidth`, &inner),
			chromedp.Evaluate(`document.documentElement.scrollWidth`, &scroll),
						chromedp.CaptureScreenshot(&picture),
		)
		if err != nil {
			var empty []string
			_ = chromedp.Run(ctx, chromedp.Evaluate(emptyCards, &empty))
			t.Fatalf("%s %d: %v (cards without content: %v)", look.scheme, look.width, err, empty)
		}
		if !strings.Contains(state, "node") {
			t.Errorf("%s %d: the page says %q", look.scheme, look.width, state)
		}
		if scroll > inner {
			t.Errorf("%s %d: the page is %.0f wide in a window of %.0f", look.scheme, look.width, scroll, inner)
		}
		if dir := os.Getenv("SLUICE_SCREENSHOTS"); dir != "" {
			name := filepath.Join(dir, "demo-"+look.scheme+"-"+strconv.FormatInt(look.width, 10)+".png")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(console) > 0 {
		t.Errorf("errors on the console: %q", console)
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
