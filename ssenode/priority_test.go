package ssenode

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/shared/route"
	"sluice/shared/sseclient"
)

// heard is what a client sees: an event "<channel> <number> …", or a gap.
type heard struct {
	channel string
	i       int
	id      string
	gap     *gapEvent
}

// stalled is frozen with a window that is quick once the client reads; its channels are
// known, and settled, before it comes.
func stalled(t *testing.T, n *Node, path string) net.Conn {
	t.Helper()
	before := n.stats.open()
	first := open(t, n, path)
	settle(t, n)
	c := unread(t, n, path, 64<<10)
	first.Close() // not before, or the channels may be forgotten meanwhile
	until(t, "the first one has left", func() bool { return n.stats.open() <= before+1 })
	return c
}

// thaw lets a stalled client read on.
func thaw(t *testing.T, c net.Conn) *sseclient.Reader {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(4 * wait)) // for all of it
	_ = c.(*net.TCPConn).SetReadBuffer(1 << 20)
	return sseclient.NewReader(afterHead(t, c))
}

// read returns the next of what the client is told, plain or by wrap=1.
func read(t testing.TB, r *sseclient.Reader) heard {
	t.Helper()
	for {
		ev, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if x, ok := heardIn(t, ev); ok {
			return x
		}
	}
}

func heardIn(t testing.TB, ev sseclient.Event) (x heard, ok bool) {
	t.Helper()
	x.id = ev.ID
	switch {
	case ev.Name == "gap":
		x.gap = &gapEvent{}
		if err := json.Unmarshal([]byte(ev.Data), x.gap); err != nil {
			t.Fatal(err)
		}
		return x, true
	case !ev.HasData || ev.Name != "":
		return x, false
	}
	data := ev.Data
	if strings.HasPrefix(data, "{") {
		var e struct{ Data string }
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		data = e.Data
	}
	words := strings.Fields(data)
	i, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatal(short(data))
	}
	x.channel, x.i = words[0], i
	return x, true
}

// pad makes events so large that a thousand do not fit into sockets.
var pad = strings.Repeat("x", 1000)

func (u *upstream) number(channel string, i int) uint64 {
	return u.publish(channel, fmt.Sprintf("%s %d %s", channel, i, pad))
}

func routes(t testing.TB, text string) route.Table {
	t.Helper()
	table, err := route.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *table
}

// eachWay runs a test with a ring in which all has room, and with one that soon moves
// on: the client goes by numbers, or replays from the stream.
func eachWay(t *testing.T, f func(t *testing.T, engine string, ring int64, replays bool)) {
	eachEngine(t, func(t *testing.T, engine string) {
		t.Run("ring", func(t *testing.T) {
			t.Parallel()
			f(t, engine, 4<<20, false)
		})
		t.Run("stream", func(t *testing.T) {
			t.Parallel()
			f(t, engine, 32<<10, true)
		})
	})
}

// flood publishes so many events of one channel, and after each number in others one of
// the other channel; it waits until the node has given them all out.
func (u *upstream) flood(n *Node, channel string, count int, other string, others ...int) {
	u.t.Helper()
	var last uint64
	for i, k := 0, 0; i < count; i++ {
		last = u.number(channel, i)
		if k < len(others) && others[k] == i {
			last = u.number(other, k)
			k++
		}
	}
	until(u.t, "the node has given it out", func() bool { return n.dispatch.head.Load() > last })
}

// inSockets is how many events of the tests at most are in sockets, and in a chunk that
// is being written, when a client stops reading.
const inSockets = 450

// A client stops reading. When it reads on, its high channel comes before the rest of the
// others, without ids, each event once, and all else in order with an id.
func TestHighFirst(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"channel=loud&channel=urgent", "channel=loud&channel=urgent&wrap=1", "pattern=loud&pattern=urgent"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(t *testing.T, engine string, ring int64, replays bool) {
				u := newUpstream(t)
				n := startNode(t, u, func(c *Config) {
					c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
					c.Routes = routes(t, "urgent priority=high")
				})
				c := stalled(t, n, "/events?"+query)
				const count = 900
				at := []int{600, 750, 751, 899}
				u.flood(n, "loud", count, "urgent", at...)
				r := thaw(t, c)
				next, urgent := 0, 0
				for next < count || urgent < len(at) {
					x := read(t, r)
					switch {
					case x.gap != nil:
						t.Fatalf("gap %+v", x.gap)
					case x.channel == "urgent":
						if x.i != urgent || next > inSockets || x.id != "" {
							t.Errorf("urgent %d with id %q after %d of the others; want %d, without, after at most %d", x.i, x.id, next, urgent, inSockets)
						}
						urgent++
					default:
						if x.i != next || !replays && x.id == "" {
							t.Fatalf("got %+v, want %d", x, next)
						}
						next++
					}
				}
				until(t, "it is current", func() bool { return behind(n) == 0 })
				seq := u.number("urgent", len(at))
				if x := read(t, r); x.channel != "urgent" || x.i != len(at) || x.id != idOf(seq) {
					t.Errorf("then got %+v, want the next urgent one with id %s", x, idOf(seq))
				}
			})
		})
	}
}

// Of a pattern with channels of several kinds the high ones go first as long as the ring
// has them; else they come in their turn. Either way each comes once.
func TestHighFirstOfAPattern(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, engine string, ring int64, replays bool) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
			c.Routes = routes(t, "room:urgent priority=high")
		})
		const query = "/events?pattern=room:*"
		c := stalled(t, n, query)
		u.flood(n, "room:loud", 900, "room:urgent", 700, 800)
		r := thaw(t, c)
		for next, urgent := 0, 0; next < 900; {
			x := read(t, r)
			switch {
			case x.channel == "room:urgent":
				if x.i != urgent || !replays && (next > inSockets || x.id != "") {
					t.Errorf("urgent %+v after %d", x, next)
				}
				urgent++
			case x.gap != nil || x.i != next:
				t.Fatalf("got %+v, want %d", x, next)
			default:
				if next++; next == 900 && urgent != 2 {
					t.Errorf("%d urgent ones", urgent)
				}
			}
		}
	})
}

// The connection breaks after the high events have gone first, and before others are
// there: the client comes back with its last id, misses nothing, and gets the high ones
// again (first, if it does not read so fast).
func TestHighFirstAndCut(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, engine string, ring int64, _ bool) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
			c.Routes = routes(t, "urgent priority=high")
		})
		const query = "/events?channel=loud&channel=urgent"
		c := stalled(t, n, query)
		const count = 900
		u.flood(n, "loud", count, "urgent", 700, 800)
		r := thaw(t, c)
		last, next, urgent := "", 0, 0
		for urgent < 2 {
			x := read(t, r)
			if x.id != "" {
				last = x.id
			}
			if x.channel == "urgent" {
				urgent++
			} else {
				next++
			}
		}
		for range 10 { // and some that come in their turn
			if x := read(t, r); x.id != "" {
				last, next = x.id, next+1
			}
		}
		c.Close()
		s := resume(t, n, query, last)
		for again := 0; next < count || again < 2; {
			ev := want1(t, s)
			switch {
			case ev.channel == "urgent":
				if ev.i != again || ev.id != "" && next != []int{701, 801}[again] {
					t.Errorf("urgent %+v after %d", ev, next)
				}
				again++
			case ev.i != next:
				t.Fatalf("got %+v, want %d", ev, next)
			default:
				next++
			}
		}
	})
}

// want1 is the next that a stream tells.
func want1(t testing.TB, s *sseclient.Stream) heard {
	t.Helper()
	for {
		if x, ok := heardIn(t, next(t, s)); ok {
			return x
		}
	}
}

// History=off: what is high goes first, each event once.
func TestHighLiveFirst(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, engine string, ring int64, _ bool) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) {
			c.SSENode.Engine, c.SSENode.RingBytes = engine, ring
			c.Routes = routes(t, "urgent priority=high history=off")
		})
		const query = "/events?channel=loud&channel=urgent"
		c := stalled(t, n, query)
		u.flood(n, "loud", 800, "")
		for i := range 3 {
			u.live("urgent", fmt.Sprintf("urgent %d x", i))
		}
		u.flood(n, "loud", 1, "") // its number is 0 again
		r := thaw(t, c)
		for next, urgent := 0, 0; next < 800; {
			x := read(t, r)
			switch {
			case x.channel == "urgent":
				if x.i != urgent || next > inSockets {
					t.Errorf("urgent %d after %d others, want %d", x.i, next, urgent)
				}
				urgent++
			case x.gap != nil || x.i != next:
				t.Fatalf("got %+v, want %d", x, next)
			default:
				if next++; next == 800 && urgent != 3 {
					t.Errorf("%d urgent ones", urgent)
				}
			}
		}
	})
}
