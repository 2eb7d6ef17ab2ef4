package publisher

import (
	"strings"
	"testing"

	"sluice/shared/worker"
)

func TestHelp(t *testing.T) {
	f := func(args []string, want ...string) {
		t.Helper()
		code, out, errs := run(t.Context(), "", args...)
		if code != worker.ExitOK || errs != "" {
			t.Errorf("%q: exit %d, stderr %q", args, code, errs)
		}
		want = append(want, "Usage:", "Examples:", "Exit codes:")
		for _, s := range worker.Settings[Config]() {
			want = append(want, s.Key, s.Default)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: no %q in %s", args, w, out)
			}
		}
	}
	type l = []string
	f(l{"-h"}, "publisher send", "publisher simulate", "publisher revoke", "publisher tap")
	f(l{"--help"})
	f(l{"help"})
	f(l{"send", "-h"}, "-event", "-rate", "standard input")
	f(l{"send", "c", "d", "--help"}, "-event")
	f(l{"tap", "-h"}, "-n", "-for", "-data")
	f(l{"revoke", "-h"}, "-sub", "-jti", "-for")
	f(l{"simulate", "-h"}, append(scenarioNames(), "-rate", "-size", "-bytes", "-for", "-seed")...)
}

func TestVersion(t *testing.T) {
	if code, out, _ := run(t.Context(), "", "-version"); code != worker.ExitOK || !strings.HasPrefix(out, "publisher ") {
		t.Errorf("exit %d, stdout %q", code, out)
	}
}

// A health check asks whoever serves; here nobody does.
func TestHealth(t *testing.T) {
	t.Setenv("ADMIN_ADDR", "127.0.0.1:1")
	for _, question := range []string{"health", "ready"} {
		if code, out, errs := run(t.Context(), "", question); code != worker.ExitFailed || out != "" || !strings.Contains(errs, `nobody answers on ADMIN_ADDR="127.0.0.1:1"`) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", question, code, out, errs)
		}
	}
}

func TestWrongCommands(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		code, out, errs := run(t.Context(), "", args...)
		if code != worker.ExitSettings || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
	f("want send, simulate, serve, tap, revoke, health or ready")
	f(`unknown command "publish"`, "publish")
	f("want the name of a scenario", "simulate")
	f(`scenario "rase": want race, leaderboard`, "simulate", "race", "rase")
	f("want more than 0", "simulate", "all", "-rate", "0")
	f("size 100001", "simulate", "all", "-size", "100001")
	f("rate 2e+06", "simulate", "all", "-rate", "2e6")
	f("bytes 16777217", "simulate", "all", "-bytes", "16777217")
	f("size -1", "simulate", "all", "-size", "-1")
	f("bytes -1", "simulate", "all", "-bytes", "-1")
	f("rate NaN", "simulate", "all", "-rate", "NaN")
	f("for -1s", "simulate", "all", "-for", "-1s")
	f("not defined: -x", "simulate", "all", "-x")
	f("want a channel", "tap")
	f("-n 0", "tap", "a", "-n", "0")
	f("-n 1001", "tap", "a", "-n", "1001")
	f("-for 0s", "tap", "a", "-for", "0s")
	f("-for 2h0m0s", "tap", "a", "-for", "2h")
	f("-data 2000", "tap", "a", "-data", "2000")
	f("channel", "tap", strings.Repeat("a", 2000))
	t.Setenv("LOG_FORMAT", "xml")
	f("LOG_FORMAT", "simulate", "all")
	t.Setenv("REDIS_URL", "nonsense")
	t.Setenv("LOG_FORMAT", "json")
	f("REDIS_URL", "simulate", "all")
}
