package publisher

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/shared/wire"
)

// A message is followed by its payload and its place, in whatever order the hops are
// heard, also where payloads repeat: as long as each hop keeps the order.
func TestTrailsFollow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payloads := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 30).Draw(t, "payloads")
		base := time.Now()
		x := trails{since: base.Add(-time.Minute), watching: map[string]int{"n1": 1, "n2": 2}}
		// One source for each hop, each in its order; they are mixed.
		at := map[string]int{"redis": 0, "live": 0, "n1": 0, "n2": 0}
		var told []*trail
		for len(at) > 0 {
			hops := []string{}
			for hop := range at {
				hops = append(hops, hop)
			}
			slices.Sort(hops)
			hop := rapid.SampledFrom(hops).Draw(t, "hop")
			i := at[hop]
			payload, now := []byte(payloads[i]), base.Add(time.Duration(i)*time.Millisecond)
			switch hop {
			case "redis":
				x.redis(payload, now)
			case "live":
				x.live(payload, streamed{live: now, seq: uint64(i + 1)})
			default:
				x.node(wire.Tapped{Node: hop, Seq: uint64(i + 1), Hash: wire.TapHash(payload), Given: i, Others: 2})
			}
			if at[hop]++; at[hop] == len(payloads) {
				delete(at, hop)
			}
			told = append(told, x.done(base)...)
		}
		if len(told) != len(payloads) || len(x.open)+len(x.early) != 0 || x.lost != 0 {
			t.Fatalf("%d of %d are told, %d open, %d early, %d lost", len(told), len(payloads), len(x.open), len(x.early), x.lost)
		}
		seen := map[uint64]bool{}
		for i, one := range told {
			k := int(one.stream.seq) - 1
			if one.number != i+1 || seen[one.stream.seq] || one.hash != wire.TapHash([]byte(payloads[k])) || !one.redis.Equal(base.Add(time.Duration(k)*time.Millisecond)) ||
				len(one.nodes) != 2 || one.nodes[0].Given != k || one.nodes[1].Given != k {
				t.Fatalf("message %d: %+v", i, one)
			}
			seen[one.stream.seq] = true
		}
	})
}

// What does not come is not waited for without end.
func TestTrailsEnd(t *testing.T) {
	base := time.Now()
	start := func() *trails {
		return &trails{since: base, watching: map[string]int{"n1": 1}, show: 3}
	}
	f := func(what string, x *trails, soon, late int) *trail {
		t.Helper()
		if list := x.done(base.Add(2*trailSoon - 100*time.Millisecond)); len(list) != soon {
			t.Errorf("%s: %d are told soon, want %d", what, len(list), soon)
		} else if soon > 0 {
			return list[0]
		}
		list := x.done(base.Add(time.Second + trailLate + trailSoon))
		if len(list) != late {
			t.Fatalf("%s: %d are told late, want %d", what, len(list), late)
		} else if late > 0 {
			return list[0]
		}
		return nil
	}
	at := base.Add(time.Second)
	x := start()
	x.redis([]byte("lost"), at)
	if one := f("not in the stream", x, 0, 1); one.stream.is() || string(one.data) != "los" || one.size != 4 {
		t.Errorf("%+v", one)
	}
	x = start()
	x.redis([]byte("a"), at)
	x.live([]byte("a"), streamed{live: at, seq: 1})
	if one := f("no node tells", x, 1, 0); len(one.nodes) != 0 {
		t.Errorf("%+v", one)
	}
	x = start()
	x.live([]byte("forged"), streamed{live: at, seq: 1})
	if one := f("not in Redis", x, 1, 0); !one.redis.IsZero() {
		t.Errorf("%+v", one)
	}
	x = start()
	x.live([]byte("before"), streamed{live: base.Add(time.Millisecond), seq: 1})
	f("published before", x, 0, 0)
	// The second waits behind the first.
	x = start()
	x.redis([]byte("1"), at)
	x.redis([]byte("2"), at)
	x.live([]byte("2"), streamed{live: at, seq: 1})
	x.node(wire.Tapped{Node: "n1", Seq: 1, Hash: wire.TapHash([]byte("2"))})
	if one := f("one is lost", x, 0, 2); one.size != 1 || one.stream.is() {
		t.Errorf("%+v", one)
	}
	x = start()
	for i := range mostTrails + 7 {
		x.redis(fmt.Append(nil, i), at)
	}
	if len(x.open) != mostTrails || x.lost != 7 {
		t.Errorf("%d on their way, %d lost", len(x.open), x.lost)
	}
}

// Copies that came to a node by several of its subscriptions are one message.
func TestTrailsAddUp(t *testing.T) {
	for _, seq := range []uint64{0, 5} {
		x := &trails{watching: map[string]int{"n1": 1}}
		now := time.Now()
		r := wire.Tapped{Node: "n1", Seq: seq, Hash: wire.TapHash([]byte("a")), At: 10, Out: 20, Given: 3, Held: true}
		x.redis([]byte("a"), now)
		x.live([]byte("a"), streamed{live: now, seq: seq})
		x.node(r)
		r.At, r.Out, r.Given, r.Others, r.Held = 9, 30, 1, 2, false
		x.node(r)
		list := x.done(now)
		want := wire.Tapped{Node: "n1", Seq: seq, Hash: r.Hash, At: 9, Out: 30, Given: 4, Others: 2}
		if len(list) != 1 || len(list[0].nodes) != 1 || list[0].nodes[0] != want {
			t.Fatalf("%+v", list)
		}
	}
}

// A message is told hop by hop, with what is missing said in words.
func TestPassedText(t *testing.T) {
	base := time.Date(2026, 11, 22, 1, 2, 3, 0, time.Local)
	ms := func(n float64) time.Time { return base.Add(time.Duration(n * float64(time.Millisecond))) }
	f := func(one trail, want ...string) {
		t.Helper()
		var b strings.Builder
		one.number, one.hash = 1, "00"
		command{stdout: &b}.passed(&one)
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("no %q in\n%s", w, b.String())
			}
		}
	}
	f(trail{redis: base, size: 7, data: []byte("a\n"), stream: streamed{live: ms(2), stored: ms(1), seq: 9},
		nodes: []wire.Tapped{{Node: "n1", At: ms(3).UnixNano(), Out: ms(3.5).UnixNano(), Given: 1, Behind: 2, Others: 3, More: 4}}},
		"1  7 bytes, hash 00  \"a\\n\"…\n", "redis    01:02:03.000", "stream   01:02:03.001     +1.0 ms  sequence 9", "live     01:02:03.002     +2.0 ms",
		"n1       01:02:03.003     +3.0 ms  given to 1 client by +3.5 ms; 2 clients behind, and gets it later; 3 clients for whom it is not, or who had it; 4 clients not looked at")
	f(trail{redis: base}, "not there after 4s")
	f(trail{redis: base, blind: true}, "the stream does not answer")
	f(trail{redis: base, stream: streamed{found: true, stored: ms(1), seq: 9}}, "sequence 9", "not heard: nodes fetch it")
	f(trail{stream: streamed{live: base}}, "not delivered here", "without history", "no client of theirs has this channel")
	f(trail{redis: base, stream: streamed{live: base}, nodes: []wire.Tapped{{Node: "n1", At: base.UnixNano(), Held: true}}}, "throttle= holds it back")
}
