package ssenode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/shared/channel"
)

func TestRanks(t *testing.T) {
	table := routes(t, "a:no priority=normal; a:> priority=high; b:x priority=low; b:* priority=high")
	f := func(pattern string, want ranks) {
		t.Helper()
		p, err := channel.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		tp := &topic{pattern: p, literal: p.Literal()}
		if tp.literal {
			tp.route = table.MatchSubject(p.Subject())
		}
		if got := ranksOf(tp, &table); got != want {
			t.Errorf("%s: %b, want %b", pattern, got, want)
		}
	}
	f("a:x", someHigh|allHigh)
	f("a:no", 0)
	f("a:*", someHigh)
	f("a:*:y", someHigh|allHigh)
	f("b:x", someLow)
	f("b:*", someHigh|someLow)
	f("c:>", 0)
	f(">", someHigh|someLow)
}

// A high channel that came by POST /subscribe goes first, too; one that was taken away
// does not come at all.
func TestHighFirstAfterSubscribe(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.Loops = 1
		c.Routes = routes(t, "urgent priority=high; other priority=high")
	})
	holder := open(t, n, "/events?channel=loud&channel=urgent&channel=other")
	settle(t, n)
	holder.Close()
	c := stalled(t, n, "/events?channel=loud&channel=other&clientId=me")
	until(t, "it is current", func() bool {
		there := make(chan bool)
		n.loops[0].ask(func() { l := n.loops[0]; there <- l.sessions.n == 1 && len(l.behind) == 0 })
		return <-there
	})
	acquainted(t, n)
	changes(t, n, "subscribe", "me", "urgent", 1)
	changes(t, n, "unsubscribe", "me", "other", 1)
	until(t, "both are done", func() bool { return n.stats.subscribed.Load() == 1 && n.stats.unsubscribed.Load() == 1 })
	u.number("other", 0)
	u.flood(n, "loud", 900, "urgent", 700, 800)
	r := thaw(t, c)
	for next, urgent := 0, 0; next < 900; {
		switch x := read(t, r); x.channel {
		case "urgent":
			if x.i != urgent || next > inSockets {
				t.Errorf("urgent %+v after %d", x, next)
			}
			urgent++
		case "loud":
			if next++; x.i != next-1 || next == 900 && urgent != 2 {
				t.Errorf("got %+v, %d urgent ones", x, urgent)
			}
		default:
			t.Fatalf("got %+v", x)
		}
	}
}

// The stream begins anew while a client is behind that was given high events first: what
// is noted of the old epoch does not hide what comes in the new one.
func TestHighFirstInANewEpoch(t *testing.T) { // not beside others: it must go on before the sockets have taken all
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.RingBytes = 4 << 20
		c.Routes = routes(t, "urgent priority=high")
	})
	const query = "/events?channel=loud&channel=louder&channel=urgent"
	c := stalled(t, n, query)
	u.flood(n, "loud", 900, "urgent")
	u.flood(n, "louder", 900, "urgent", 600, 700)
	_ = c.SetReadDeadline(time.Now().Add(4 * wait))
	r := thaw(t, c)
	for urgent := 0; urgent < 2; {
		if read(t, r).channel == "urgent" {
			urgent++
		}
	}
	if behind(n) != 1 {
		t.Fatal("it has caught up")
	}
	u.stop()
	until(t, "both notice", func() bool { return !u.nc.IsConnected() && !n.nc.IsConnected() })
	u.restart(n)
	u.pulse("e2")
	for i := range 3 {
		u.number("urgent", 100+i)
	}
	u.number("loud", 5000)
	gap := false
	for next := 100; ; {
		x := read(t, r)
		switch {
		case x.gap != nil && x.gap.Reason == gapRecreated:
			gap = true
		case x.gap != nil:
			t.Fatalf("gap %+v", x.gap)
		case x.channel == "urgent":
			if x.i != next || !gap {
				t.Errorf("got %+v, want %d; a gap came: %v", x, next, gap)
			}
			next++
		case x.i == 5000:
			if next != 103 {
				t.Errorf("urgent ones came up to %d", next-1)
			}
			return
		}
	}
}

// So many high channels of one client go first, and no more; each event comes once, and
// those of a channel in order.
func TestHighFirstIsBounded(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.RingBytes = 4 << 20
		c.Routes = routes(t, "h:* priority=high")
	})
	const query = "/events?channel=loud&pattern=h:*"
	c := stalled(t, n, query)
	u.flood(n, "loud", 700, "")
	const channels = maxAhead + 20
	for k := range 2 * channels {
		u.publish(fmt.Sprint("h:", k%channels), fmt.Sprintf("h:%d %d x", k%channels, k/channels))
	}
	u.flood(n, "loud", 1, "")
	r := thaw(t, c)
	early, have := map[string]bool{}, map[string]int{}
	for next, high := 0, 0; next < 701 || high < 2*channels; {
		x := read(t, r)
		switch {
		case x.gap != nil:
			t.Fatalf("gap %+v", x.gap)
		case x.channel == "loud":
			next++
			continue
		case next <= inSockets:
			early[x.channel] = true
		}
		if have[x.channel] != x.i {
			t.Errorf("%s: got %d, want %d", x.channel, x.i, have[x.channel])
		}
		have[x.channel]++
		high++
	}
	if len(early) != maxAhead {
		t.Errorf("%d channels went first, want %d", len(early), maxAhead)
	}
}

// The newest event that is left of a low channel is the client's own.
func TestLowSkipsByCriteria(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.RingBytes, c.SSENode.BehindAfter = 4<<20, 300*time.Millisecond
		c.Routes = routes(t, "chatter priority=low")
	})
	const query = "/events?channel=loud&channel=chatter&role=admin"
	c := stalled(t, n, query)
	u.flood(n, "loud", 700, "")
	for i, role := range []string{"admin", "admin", "guest", "guest"} {
		u.publish("chatter", fmt.Sprintf(`{"event":"chat","data":"%s %d","criteria":{"role":%q}}`, role, i, role))
	}
	u.flood(n, "loud", 1, "")
	staysBehind(t, n)
	r := thaw(t, c)
	var chat []string
	for next, gaps := 0, 0; next < 701; {
		ev, err := r.Next()
		switch {
		case err != nil:
			t.Fatal(err)
		case ev.Name == "gap":
			gaps++
		case ev.Name == "chat":
			chat = append(chat, ev.Data)
		case ev.HasData && strings.HasPrefix(ev.Data, "loud"):
			if next++; next == 701 && (gaps != 1 || fmt.Sprint(chat) != `["admin 1"]`) {
				t.Errorf("%d gaps, %v", gaps, chat)
			}
		}
	}
}
