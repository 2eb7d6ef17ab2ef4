package bridge

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"sluice/shared/embedded"
)

func TestGlob(t *testing.T) {
	f := func(pattern, s string, want bool) {
		t.Helper()
		if glob(pattern, s) != want {
			t.Errorf("%q on %q: got %v", pattern, s, !want)
		}
	}
	f("*", "a:b", true)
	f("*", "", false) // so it is
	f("", "", true)
	f("a*", "a", true)
	f("a**b", "ab", true)
	f("a?c", "abc", true)
	f("a?c", "ac", false)
	f("h[ae]llo", "hello", true)
	f("h[^e]llo", "hello", false)
	f("h[a-c]x", "hbx", true)
	f("h[c-a]x", "hbx", true)
	f("[", "[", false)
	f("[a", "a", true)
	f(`\*`, "*", true)
	f(`\*`, "a", false)
	f(`a\`, `a\`, true)
	f("A", "a", false)
	f("*a*b*c*", "xxaxxbxxcxx", true)
	f(strings.Repeat("*a", 200), strings.Repeat("a", 1000), true)
	f(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 2000), false) // in no time
}

// Byte for byte what the server does: PUBSUB CHANNELS uses the same matcher on
// the names of channels that have a subscriber.
func TestGlobIsRedis(t *testing.T) {
	t.Parallel()
	server := embedded.TestRedisProcess(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})
	defer client.Close()
	ctx := t.Context()
	ps := client.Subscribe(ctx)
	defer ps.Close()
	bytes := rapid.SampledFrom([]byte("aab*?[]^-\\c\x80\xff"))
	text := func(t *rapid.T, label string) string {
		return string(rapid.SliceOfN(bytes, 0, 9).Draw(t, label))
	}
	subscribed := map[string]bool{}
	rapid.Check(t, func(rt *rapid.T) {
		name := text(rt, "name")
		if !subscribed[name] {
			subscribed[name] = true
			if err := ps.Subscribe(ctx, name); err != nil {
				t.Fatal(err)
			}
			if _, err := ps.ReceiveTimeout(ctx, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			pattern := text(rt, "pattern")
			if pattern == "" {
				continue
			}
			// Not PubSubChannels, which leaves out a pattern that is "*".
			found, err := client.Do(ctx, "PUBSUB", "CHANNELS", pattern).StringSlice()
			if err != nil {
				t.Fatal(err)
			}
			matched := map[string]bool{}
			for _, c := range found {
				matched[c] = true
			}
			for c := range subscribed {
				if glob(pattern, c) != matched[c] {
					rt.Fatalf("%q on %q: Redis says %v", pattern, c, matched[c])
				}
			}
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a*[b-c]?\\*", "axb?*")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 200 || len(s) > 200 {
			return
		}
		got := glob(pattern, s)
		if strings.Trim(pattern, "*") == "" && pattern != "" && got != (s != "") {
			t.Fatalf("%q on %q: %v", pattern, s, got)
		}
		if !strings.ContainsAny(pattern, "*?[\\") && got != (pattern == s) {
			t.Fatalf("%q on %q: %v", pattern, s, got)
		}
	})
}

func TestPlan(t *testing.T) {
	f := func(patterns, channel, copies string, want string) {
		t.Helper()
		var p Patterns
		if err := p.Decode(patterns); err != nil {
			t.Fatal(err)
		}
		pl := newPlan(p)
		var taken []string
		for by := range strings.SplitSeq(copies, " ") {
			if pl.takes(channel, strings.TrimPrefix(by, "=")) {
				taken = append(taken, by)
			}
		}
		if got := strings.Join(taken, " "); got != want {
			t.Errorf("%q, channel %q: took the copies %q of %q, want %q", patterns, channel, got, copies, want)
		}
	}
	f("*", "a", "*", "*")
	f("*,a", "a", "* =", "*")
	f("a,*", "a", "*", "*") // with * nothing else is subscribed
	f("a*,ab", "ab", "a* =", "a*")
	f("ab,a*", "ab", "= a*", "=")
	f("a*,*b,a?", "ab", "*b a? a*", "a*")
	f("*", "__keyspace@0__:x", "*", "")
	f("*", "__keyevent@0__:x", "*", "")
	f("*", "__sentinel__:hello", "*", "")
	f("__keyspace@*", "__keyspace@0__:x", "__keyspace@*", "__keyspace@*")
	f("*", "sluice:mark", "*", "*")
	f("s*,*mark", "sluice:mark", "*mark s*", "s*") // a mark that came twice would name no place
	f("a,b*", "sluice:mark", "=", "=")
	f("x*", "odd", "x*", "x*") // the server matched what we would not: in doubt deliver
	all := newPlan(Patterns{list: []entry{{"*", true}, {"a", false}, {"b*", true}}})
	if g, n := all.globs(), all.names(); len(g) != 1 || len(n) != 1 || n[0] != "" {
		t.Errorf("with * subscribed to %q and %q", g, n)
	}
	some := newPlan(Patterns{list: []entry{{"b*", true}, {"a", false}}})
	if n := some.names(); len(n) != 2 || n[1] != "sluice:mark" {
		t.Errorf("subscribed to %q, want the marks, too", n)
	}
	if same := newPlan(Patterns{list: []entry{{"a", false}, {"b*", true}}}); same.hash() == some.hash() {
		t.Error("plans of another order have the same hash")
	}
}
