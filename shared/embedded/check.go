package embedded

import (
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Eventually waits until ok holds, looking every few milliseconds. After
// patience the test fails at once.
func Eventually(tb testing.TB, what string, patience time.Duration, ok func() bool) {
	tb.Helper()
	EventuallyEvery(tb, what, patience, 2*time.Millisecond, ok)
}

// EventuallyEvery is Eventually for what costs something to look at.
func EventuallyEvery(tb testing.TB, what string, patience, every time.Duration, ok func() bool) {
	tb.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	look := time.NewTicker(every)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-limit.C:
			if !ok() {
				tb.Fatalf("waited %s in vain: %s", patience, what)
			}
			return
		}
	}
}

// NeedLinux skips the test elsewhere, and says why. Where CI=true that is a
// failure: there a skipped test is a lost one.
func NeedLinux(tb testing.TB, why string) {
	tb.Helper()
	switch {
	case runtime.GOOS == "linux":
	case os.Getenv("CI") == "true":
		tb.Fatalf("needs Linux when CI=true: %s", why)
	default:
		tb.Skipf("needs Linux: %s", why)
	}
}

// TestLog writes into the test when SLUICE_TEST_LOG is set; a worker's log is
// long, and of interest only to somebody who looks for it.
func TestLog(tb testing.TB) *slog.Logger {
	w := io.Discard
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		w = tb.Output()
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// CheckReadme checks that the file has the tables as they are, and names each of
// the words as code.
func CheckReadme(tb testing.TB, file string, tables, words []string) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	for _, table := range tables {
		if !strings.Contains(string(b), "\n\n"+table+"\n") {
			tb.Errorf("%s: want this table:\n%s", file, table)
		}
	}
	for _, word := range words {
		if !strings.Contains(string(b), "`"+word+"`") {
			tb.Errorf("%s: %s is missing", file, word)
		}
	}
}
