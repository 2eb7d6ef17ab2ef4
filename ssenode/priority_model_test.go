package ssenode

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// witness is a client that stalls, leaves and comes back at random, and what it has got.
type witness struct {
	t    *testing.T
	node *Node
	path string
	rnd  *rand.Rand
	// stays: it does not leave, and events may not come live, see TestPriorityModel.
	stays bool
	begun bool

	mu   sync.Mutex // guards the following fields
	last string
	got  map[string]map[int]bool
	lost map[string][][2]uint64 // by channel or pattern: after a sequence, up to another
	bare int                    // high events without ids
}

// live lets it be there until it is done.
func (w *witness) live(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
			w.once(done)
		}
	}
}

// once is one connection. It ends after a while, or when nothing more comes.
func (w *witness) once(done <-chan struct{}) {
	c, err := net.Dial("tcp", w.node.Addr().String())
	if err != nil {
		w.t.Error(err)
		return
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
	path := w.path
	if w.last != "" {
		path += "&lastEventId=" + w.last
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	_ = c.SetReadDeadline(time.Now().Add(wait))
	r := sseclient.NewReader(afterHead(w.t, c))
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-done:
			c.Close()
		case <-over:
		}
	}()
	for !w.begun { // so there is something to skip, and to go first, on any machine
		select {
		case <-time.After(10 * time.Millisecond):
			w.begun = overdue(w.node)
		case <-done:
			return
		}
	}
	end := time.Now().Add(time.Duration(500+w.rnd.IntN(3000)) * time.Millisecond)
	newest := map[string]int{}
	for w.stays || time.Now().Before(end) {
		limit := time.Second
		if w.stays {
			limit = 6 * wait
		}
		_ = c.SetReadDeadline(time.Now().Add(limit))
		ev, err := r.Next()
		if err != nil {
			return
		}
		w.hear(ev, newest)
		if w.rnd.IntN(300) == 0 {
			select {
			case <-time.After(time.Duration(w.rnd.IntN(800)) * time.Millisecond):
			case <-done:
				return
			}
		}
	}
}

// hear notes an event. newest has the last number of each channel on this connection.
func (w *witness) hear(ev sseclient.Event, newest map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ev.HasID {
		if w.last != "" && seqOf(w.t, ev.ID) < seqOf(w.t, w.last) {
			w.t.Errorf("id %s after %s", ev.ID, w.last)
		}
		w.last = ev.ID
	}
	x, ok := heardIn(w.t, ev)
	switch {
	case !ok:
	case x.gap != nil:
		if x.gap.Reason != gapDropped || x.gap.From == nil || x.gap.To == nil {
			w.t.Errorf("gap %s", ev.Data)
			return
		}
		for _, name := range slices.Concat(x.gap.Channels, x.gap.Patterns) {
			w.lost[name] = append(w.lost[name], [2]uint64{seqOf(w.t, *x.gap.From), seqOf(w.t, *x.gap.To)})
		}
	default:
		if before, is := newest[x.channel]; is && x.i <= before && !w.stays {
			w.t.Errorf("%s: %d after %d on one connection", x.channel, x.i, before)
		}
		newest[x.channel] = x.i
		if w.got[x.channel] == nil {
			w.got[x.channel] = map[int]bool{}
		}
		w.got[x.channel][x.i] = true
		if x.id == "" && strings.HasSuffix(x.channel, ":high") {
			w.bare++
		}
	}
}

// missing tells what it neither got nor was told as dropped; only what is low may be.
func (w *witness) missing(seqs map[string][]uint64) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel, all := range seqs {
		for i, seq := range all {
			told := func(name string) bool {
				return slices.ContainsFunc(w.lost[name], func(r [2]uint64) bool { return r[0] < seq && seq <= r[1] })
			}
			if !w.got[channel][i] && !(strings.HasSuffix(channel, ":low") && (told(channel) || told("b:*"))) {
				list = append(list, fmt.Sprintf("%s %d (%d)", channel, i, seq))
			}
		}
		if n := len(all) - 1; n >= 0 && !w.got[channel][n] {
			list = append(list, fmt.Sprint(channel, ": the newest"))
		}
	}
	return list
}

// Clients with channels of all priorities, by name and by patterns that overlap, stall,
// leave and come back at random. Nothing is lost to them but what is low, and that only
// where a gap tells; on one connection each channel is in order, each event once; ids
// never go back. Those that stay are not lost anything either when now and then an event
// does not come live. (Events without ids may come twice then, and who leaves may have an
// id that vouches for too much: the pulse is not a marked one.)
func TestPriorityModel(t *testing.T) {
	type variant struct {
		ring  int64
		stays bool
	}
	for _, v := range []variant{{8 << 10, false}, {100 << 10, false}, {4 << 20, false}, {4 << 20, true}} {
		t.Run(fmt.Sprint(v), func(t *testing.T) { // beside each other, and no others: it needs the processors
			t.Parallel()
			u := newUpstream(t)
			n := startNode(t, u, func(c *Config) {
				c.SSENode.RingBytes, c.SSENode.BehindAfter = v.ring, 300*time.Millisecond
				c.Routes = routes(t, "*:high priority=high; *:low priority=low")
			})
			const path = "/events?channel=a:high&channel=a:n&channel=a:low&pattern=b:*&pattern=*:n&pattern=*:high"
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			first := open(t, n, path)
			settle(t, n)
			u.number("a:n", 0)
			start := ""
			for start == "" {
				start = want1(t, first).id
			}
			first.Close()
			// What is lost from now on casts no doubt on that id.
			until(t, "a pulse comes after it", func() bool { return n.dispatch.head.Load() > seqOf(t, start) })
			done := make(chan struct{})
			var wg sync.WaitGroup
			var all []*witness
			for k := range 6 {
				w := &witness{
					t: t, node: n, path: path, rnd: rand.New(rand.NewPCG(seed, uint64(k))), stays: v.stays,
					last: start, got: map[string]map[int]bool{"a:n": {0: true}}, lost: map[string][][2]uint64{},
				}
				all = append(all, w)
				wg.Go(func() { w.live(done) })
			}
			stop := sync.OnceFunc(func() { close(done); wg.Wait() })
			defer stop()
			seqs := map[string][]uint64{"a:n": {seqOf(t, start)}}
			rnd := rand.New(rand.NewPCG(seed, 99))
			channels := []string{"a:high", "b:high", "a:n", "b:n", "a:low", "b:low", "a:n", "b:n", "b:low"}
			for range 2500 {
				name := channels[rnd.IntN(len(channels))]
				if len(seqs[name]) > 950 {
					continue // history keeps no more
				}
				if next := len(seqs[name]); v.stays && rnd.IntN(50) == 0 {
					seqs[name] = append(seqs[name], u.lose(name, fmt.Sprintf("%s %d %s", name, next, pad)))
				} else {
					seqs[name] = append(seqs[name], u.number(name, next))
				}
			}
			var lacking []string // filled when it is about to fail
			t.Cleanup(func() {
				if !t.Failed() {
					return
				}
				t.Log(lacking)
				for k, w := range all {
					t.Logf("client %d was told that it lost %v", k, w.lost)
				}
			})
			embedded.EventuallyEvery(t, "all clients have everything", 4*wait, 100*time.Millisecond, func() bool {
				lacking = lacking[:0]
				for k, w := range all {
					if list := w.missing(seqs); len(list) > 0 {
						lacking = append(lacking, fmt.Sprintf("client %d lacks %d: %v", k, len(list), list[:min(5, len(list))]))
					}
				}
				return len(lacking) == 0
			})
			stop()
			bare, dropped := 0, 0
			for _, w := range all {
				bare += w.bare
				for _, list := range w.lost {
					dropped += len(list)
				}
			}
			t.Logf("%d high events went first, %d gaps", bare, dropped)
			if bare == 0 || dropped == 0 {
				t.Errorf("%d high events went first, %d gaps: want some", bare, dropped)
			}
		})
	}
}
