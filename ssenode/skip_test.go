package ssenode

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// overdue tells whether a client is behind for longer than SSENODE_BEHIND_AFTER now.
func overdue(n *Node) (is bool) {
	onLoops(n, func(l *loop) {
		now := time.Now().UnixNano()
		for s := range l.behind {
			is = is || s.lag != nil && s.full != 0 && now-s.full > int64(l.behindAfter)
		}
	})
	return is
}

// staysBehind waits until a client has been behind for longer than SSENODE_BEHIND_AFTER, or
// has skipped for that already.
func staysBehind(t testing.TB, n *Node) {
	t.Helper()
	until(t, "a client is behind for so long", func() bool { return overdue(n) || n.stats.dropped[behindClient].Load() > 0 })
}

// A client takes nothing for longer than SSENODE_BEHIND_AFTER: its low channel skips to
// the newest event, which comes in its turn with its id, after one gap that tells so. The
// others come whole. What was skipped is not told as lost again to who comes back.
func TestLowSkips(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"channel=loud&channel=chatter", "channel=loud&channel=chatter&wrap=1", "pattern=>"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(t *testing.T, engine string, ring int64, replays bool) {
				u := newUpstream(t)
				n := startNode(t, u, func(c *Config) {
					c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
					c.SSENode.BehindAfter = 300 * time.Millisecond
					c.Routes = routes(t, "chatter priority=low")
				})
				c := stalled(t, n, "/events?"+query)
				const count = 900
				at := []int{500, 600, 700, 750, 850}
				u.flood(n, "loud", count, "chatter", at...)
				staysBehind(t, n)
				r := thaw(t, c)
				newest := len(at) - 1
				next, gaps, gap, gapID, before := 0, 0, (*gapEvent)(nil), "", 0 // before it, of the low channel
				var low []heard
				for next < count || !slices.ContainsFunc(low, func(x heard) bool { return x.i == newest }) {
					switch x := read(t, r); {
					case x.gap != nil:
						if gaps++; gaps == 1 {
							gap, gapID, before = x.gap, x.id, len(low)
						}
					case x.channel == "chatter":
						low = append(low, x)
						if next != at[x.i]+1 {
							t.Errorf("%d of the low channel after %d of the other", x.i, next)
						}
					case x.i != next:
						t.Fatalf("got %+v, want %d", x, next)
					default:
						next++
					}
				}
				names := ""
				if gap != nil {
					names = fmt.Sprint(gap.Channels, gap.Patterns)
				}
				wanted := "[chatter] []"
				if query == "pattern=>" {
					wanted = "[] [>]"
				}
				if gap == nil || gap.Reason != gapDropped || names != wanted || gap.From == nil || gap.To == nil || seqOf(t, *gap.From) >= seqOf(t, *gap.To) {
					t.Fatalf("gap %+v, want one of %s", gap, wanted)
				}
				// What a replay of a pattern has not at hand comes all the same, or goes later.
				if (len(low) > 1 || gaps > 1) && !(replays && query == "pattern=>") {
					t.Errorf("%d gaps, and of the low channel came %+v", gaps, low)
				}
				if d, g := n.stats.dropped[behindClient].Load(), n.stats.gapEvents[slices.Index(gapReasons[:], gapDropped)].Load(); int(d) != gaps || int(g) != gaps {
					t.Errorf("counted %d and %d gaps of %d", d, g, gaps)
				}
				last := low[len(low)-1]
				until(t, "it is current", func() bool { return behind(n) == 0 })
				if !replays && last.id == "" {
					t.Error("the newest has no id")
				}
				after := u.number("chatter", len(at))
				if x := read(t, r); x.channel != "chatter" || x.i != len(at) || x.id != idOf(after) {
					t.Errorf("then got %+v", x)
				}
				c.Close()
				// Wherever it comes back; there nobody is behind for so long.
				n = startNode(t, u, func(c *Config) { c.Routes, c.SSENode.BehindAfter = n.cfg.Routes, time.Hour })
				if last.id != "" {
					s := resume(t, n, "/events?"+query, last.id)
					for i := at[newest] + 1; i < count; i++ {
						if x := want1(t, s); x.i != i {
							t.Fatalf("after %s got %+v, want %d", last.id, x, i)
						}
					}
					if x := want1(t, s); x.channel != "chatter" || x.i != len(at) {
						t.Errorf("got %+v, want the newest", x)
					}
				}
				if gapID != "" {
					s := resume(t, n, "/events?"+query, gapID)
					for i := before; i < len(at); {
						x := want1(t, s)
						if x.gap != nil {
							t.Fatalf("told again: %+v", x.gap)
						}
						if x.channel == "chatter" {
							if x.i != i {
								t.Errorf("got %+v, want %d", x, i)
							}
							i++
						}
					}
				}
			})
		})
	}
}

// Without history, too: only the newest is left, and what a replay was about to write.
func TestLowLiveSkips(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, engine string, ring int64, replays bool) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
			c.SSENode.BehindAfter = 300 * time.Millisecond
			c.Routes = routes(t, "chatter priority=low history=off")
		})
		const query = "/events?channel=loud&channel=chatter"
		c := stalled(t, n, query)
		u.flood(n, "loud", 800, "")
		for i := range 5 {
			u.live("chatter", fmt.Sprintf("chatter %d x", i))
		}
		u.flood(n, "loud", 1, "")
		staysBehind(t, n)
		r := thaw(t, c)
		gaps, low := 0, 0
		for next := 0; next < 801; {
			switch x := read(t, r); {
			case x.gap != nil:
				if gaps++; x.gap.Reason != gapDropped || fmt.Sprint(x.gap.Channels) != "[chatter]" {
					t.Errorf("gap %+v", x.gap)
				}
			case x.channel == "chatter":
				if low++; x.i != 4 && !replays {
					t.Errorf("got %+v", x)
				}
			default:
				next++
			}
		}
		if (gaps != 1 || low != 1) && !(replays && low == 5-4*gaps) {
			t.Errorf("%d gaps, %d of the low channel; want one each", gaps, low)
		}
	})
}

// Who is behind for a moment only, and a poll however long, gets all of it.
func TestLowIsNotSkippedAtOnce(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		c.SSENode.BehindAfter = time.Hour
		c.Routes = routes(t, "chatter priority=low; urgent priority=high")
	})
	const query = "channel=loud&channel=chatter&channel=urgent"
	c := stalled(t, n, "/events?"+query)
	before := u.publish("other", "")
	at := []int{100, 300, 500}
	u.flood(n, "loud", 600, "chatter", at...)
	u.flood(n, "urgent", 1, "")
	a := joinNow(t, n, query, idOf(before)).adopt().answer()
	if len(a.Events) != 604 || a.Gap != nil || a.Events[603].Channel != "urgent" || a.Events[603].ID == nil {
		t.Errorf("a poll got %d events, gap %+v", len(a.Events), a.Gap)
	}
	r := thaw(t, c)
	for next, low := 0, 0; next < 600 || low < 3; {
		switch x := read(t, r); {
		case x.gap != nil:
			t.Fatalf("gap %+v", x.gap)
		case x.channel == "loud":
			next++
		case x.channel == "chatter":
			low++
		}
	}
}
