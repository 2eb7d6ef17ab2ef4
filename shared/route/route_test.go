package route

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/shared/channel"
	"sluice/shared/event"
)

func parse(t *testing.T, s string) *Table {
	t.Helper()
	table, err := Parse(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return table
}

func TestParse(t *testing.T) {
	table := parse(t, "leaderboard:* throttle=1s; game:> history=off;\n alerts:> priority=high ;; bills initial=1; auction:* history=500/5m format=raw; raw:%3B%20x format=envelope;")
	f := func(name string, want Route) {
		t.Helper()
		got := *table.Match(name)
		want.Pattern = got.Pattern
		if want.History == (History{}) {
			want.History = defaultRoute.History
		}
		if got != want {
			t.Errorf("%q: got %+v, want %+v", name, got, want)
		}
	}
	f("leaderboard:1", Route{Throttle: time.Second})
	f("game:1:2", Route{History: History{Off: true}})
	f("game", Route{})
	f("alerts:x", Route{Priority: High})
	f("bills", Route{Initial: 1})
	f("auction:7", Route{History: History{Count: 500, Age: 5 * time.Minute}, Format: event.Raw})
	f("raw:; x", Route{Format: event.Enveloped})
	f("", Route{})
	f(strings.Repeat("x", 5000), Route{})
	if table.MaxCount() != DefaultCount || table.MaxAge() != DefaultAge {
		t.Errorf("max %d, %s", table.MaxCount(), table.MaxAge())
	}
	big := parse(t, "a history=5000/1h; b history=1/2h")
	if big.MaxCount() != 5000 || big.MaxAge() != 2*time.Hour {
		t.Errorf("max %d, %s", big.MaxCount(), big.MaxAge())
	}
}

func TestFirstMatchWins(t *testing.T) {
	table := parse(t, "a:b throttle=1s; a:* throttle=2s; > throttle=3s")
	for name, want := range map[string]time.Duration{"a:b": 1, "a:c": 2, "b": 3} {
		if got := table.Match(name).Throttle; got != want*time.Second {
			t.Errorf("%q: got %s", name, got)
		}
	}
}

func TestErrors(t *testing.T) {
	f := func(s string, pos int, text string) {
		t.Helper()
		_, err := Parse(s)
		var se *SyntaxError
		if !errors.As(err, &se) || se.Pos+1 != pos || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want position %d and %q", s, err, pos, text)
		}
	}
	f("a b", 3, "name=value")
	f("a=1", 1, "begins with a pattern")
	f("a history", 3, "name=value")
	f("a histroy=off", 3, "unknown option")
	f("a history=on", 11, "500/5m")
	f("a history=0/5m", 11, "1 to 1000000")
	f("a history=5", 11, "500/5m")
	f("a history=5/1ms", 11, "1s")
	f("ok; a history=5/x", 15, "500/5m")
	f("a initial=-1", 11, "number")
	f("a initial=x", 11, "number")
	f("a initial=1001", 15, "1000 events")
	f("a initial=1 history=off", 24, "off")
	f("a throttle=0s", 12, "duration")
	f("a throttle=5", 12, "duration")
	f("a priority=urgent", 12, "high, normal or low")
	f("a format=json", 10, "auto, raw or envelope")
	f("a throttle=1s throttle=2s", 15, "twice")
	f("a* throttle=1s", 1, "%2A")
	f(" ; >:a", 4, ">")
	f("a:> priority=low; a:b throttle=1s", 19, "never used")
	f("a; a", 4, "never used")
}

func TestHash(t *testing.T) {
	same := parse(t, "a:* throttle=1s priority=high;  b history=10/1m")
	for _, s := range []string{"a:* priority=high throttle=1000ms; b history=10/60s;", "\na:*\tthrottle=1s priority=high ;b history=10/1m"} {
		if parse(t, s).Hash() != same.Hash() {
			t.Errorf("%q has another hash", s)
		}
	}
	var zero Table
	if zero.Hash() != parse(t, " ;; ").Hash() || len(zero.Hash()) != 16 {
		t.Errorf("hash of nothing: %q", zero.Hash())
	}
	if parse(t, "b history=10/1m; a:* throttle=1s priority=high").Hash() == same.Hash() {
		t.Error("another order has the same hash")
	}
}

// What is written is read back as the same.
func TestRoundTrip(t *testing.T) {
	option := rapid.SampledFrom([]string{"history=off", "history=7/90s", "initial=0", "throttle=1500ms", "priority=low", "priority=normal", "format=raw", "format=envelope"})
	name := func(option string) string { name, _, _ := strings.Cut(option, "="); return name } // each once
	pattern := rapid.SampledFrom([]string{"a", "a:*", "b:>", "%3B%2C", "x:%20:*", "ü", "c"})
	rapid.Check(t, func(t *rapid.T) {
		var text []string
		for _, p := range rapid.SliceOfNDistinct(pattern, 0, 4, rapid.ID).Draw(t, "patterns") {
			text = append(text, p+" "+strings.Join(rapid.SliceOfNDistinct(option, 0, 3, name).Draw(t, "options"), " "))
		}
		table, err := Parse(strings.Join(text, ";"))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := Parse(table.String())
		if err != nil || again.String() != table.String() || again.Hash() != table.Hash() {
			t.Fatalf("%q is written %q, which is %q, %v", text, table, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("leaderboard:* throttle=1s; game:> history=off; bills initial=1; auction:* history=500/5m")
	f.Add(";;a format=raw")
	f.Fuzz(func(t *testing.T, s string) {
		table, err := Parse(s)
		if err != nil {
			var se *SyntaxError
			if !errors.As(err, &se) || se.Pos < 0 || se.Pos > len(s) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if again, err := Parse(table.String()); err != nil || again.Hash() != table.Hash() {
			t.Fatalf("%q is written %q: %v", s, table, err)
		}
	})
}

func TestAll(t *testing.T) {
	table := parse(t, "a:x priority=low; a:> priority=high; b:* priority=high")
	f := func(pattern string, want bool) {
		t.Helper()
		p, err := channel.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.All(p, func(r *Route) bool { return r.Priority == High }); got != want {
			t.Errorf("%q: %v", pattern, got)
		}
	}
	f("a:y", true)
	f("a:x", false)
	f("a:*", false)
	f("a:*:z", true)
	f("b:*", true)
	f("b:>", false)
	f("c", false)
}
