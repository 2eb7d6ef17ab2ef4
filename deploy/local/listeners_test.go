package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// listeners are connections that watch, on each node, every paced channel once,
// and check each event.
type listeners struct {
	pair   *pair
	load   *paced
	strict bool // nothing may be lost: a gap is wrong
	all    []*listener
	meters []meter // one for each node
	live   meter   // of what comes from NATS

	mu      sync.Mutex // guards wrong
	wrong   []string
	spoiled atomic.Bool // something is wrong
}

// listener is one of them. It may leave and come back.
type listener struct {
	set  *listeners
	url  string
	node int
	st   *sseclient.Stream
	over chan struct{} // closed when nothing is read any more

	mu       sync.Mutex     // guards the following fields
	places   map[int]*place // by channel
	last     wire.ID
	returned bool
	gaps     map[string]int // by reason
}

// place is where a listener is in a channel.
type place struct {
	next  int  // message
	told  bool // of a gap, since the last message
	fresh bool // nothing has come since the return: what came without an id may come again
	holes []hole
}

// hole is what did not come: from the first to before the second message.
type hole struct{ from, to int }

// listen opens so many connections to each node, before anything is published.
// They have a position when it returns, so that they have to get every message.
func listen(p *pair, load *paced, clients int, strict bool) *listeners {
	p.t.Helper()
	ls := &listeners{pair: p, load: load, strict: strict, meters: make([]meter, len(p.nodes))}
	for i := range clients * len(p.nodes) {
		l := &listener{set: ls, node: i % len(p.nodes), places: map[int]*place{}, gaps: map[string]int{}}
		q := url.Values{}
		for c := i / len(p.nodes); c < pacedChannels; c += clients {
			l.places[c] = &place{}
			q.Add("channel", channelName(c))
		}
		l.url = p.nodes[l.node] + "/events?" + q.Encode()
		l.st = openURL(p.t, l.url)
		ls.all = append(ls.all, l)
	}
	for _, l := range ls.all {
		positioned(p.t, l.st)
		l.listen()
	}
	p.t.Cleanup(ls.leave)
	ls.hearNATS()
	return ls
}

// leave closes all connections.
func (ls *listeners) leave() {
	for _, l := range ls.all {
		l.st.Close()
	}
	for _, l := range ls.all {
		<-l.over
	}
}

// comeBack connects all again, from their last position on.
func (ls *listeners) comeBack() {
	t := ls.pair.t
	t.Helper()
	for _, l := range ls.all {
		st, err := sseclient.Open(t.Context(), l.url, sseclient.Options{LastEventID: l.st.LastEventID()})
		if err != nil {
			t.Fatalf("come back: %v", err)
		}
		l.st, l.returned = st, true
		for _, p := range l.places {
			p.fresh = true
		}
		l.listen()
	}
}

func (l *listener) listen() {
	l.over = make(chan struct{})
	go func() {
		defer close(l.over)
		for {
			// Heartbeats are half a minute apart.
			ev, err := l.st.Next(context.Background())
			if err == nil {
				err = l.take(ev)
			}
			switch {
			case err == nil:
			case errors.Is(err, net.ErrClosed): // by leave
				return
			default:
				l.set.fail(fmt.Sprintf("%s on node %d, position %s: %v", time.Now().Format("05.000"), l.node+1, l.st.LastEventID(), err))
				return
			}
		}
	}()
}

func (ls *listeners) fail(text string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.wrong = append(ls.wrong, text)
	ls.spoiled.Store(true)
}

// take checks one event.
func (l *listener) take(ev sseclient.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ev.HasID {
		id, err := wire.ParseID(ev.ID)
		if err != nil {
			return err
		}
		if id.Epoch == l.last.Epoch && id.Seq < l.last.Seq || l.last.Epoch != "" && id.Epoch != l.last.Epoch {
			return fmt.Errorf("the position goes from %s to %s", l.last, id)
		}
		l.last = id
	}
	switch {
	case ev.Name == "gap":
		return l.gap(ev.Data)
	case ev.Name != "" || !ev.HasData:
		return nil
	}
	l.set.meters[l.node].tick(time.Now())
	name, what, _ := strings.Cut(ev.Data, " ")
	c, err := strconv.Atoi(name)
	p := l.places[c]
	if err != nil || p == nil {
		return fmt.Errorf("unexpected %.60q", ev.Data)
	}
	n := p.next
	if ev.Data != l.set.load.payload(c, n) {
		if n, err = strconv.Atoi(what); err != nil {
			n = -1
		}
		switch {
		case n < 0 || l.set.load.same:
			return fmt.Errorf("channel %d: got %q, want %q, which is number %d", c, what, l.set.load.payload(c, p.next), p.next)
		case n < p.next && p.fresh:
		case n > p.next && p.told:
			p.holes = append(p.holes, hole{p.next, n})
		default:
			return fmt.Errorf("channel %d: got %d, want %d (told of a gap: %v)", c, n, p.next, p.told)
		}
	}
	p.next, p.told, p.fresh = n+1, false, false
	return nil
}

// gap notes whom a gap is for.
func (l *listener) gap(data string) error {
	var g struct {
		Channels []string
		Reason   string
	}
	if err := json.Unmarshal([]byte(data), &g); err != nil {
		return err
	}
	l.gaps[g.Reason]++
	if l.set.strict {
		return fmt.Errorf("gap %.80s…", data)
	}
	if l.returned && g.Reason == wire.GapUpstream {
		// What came before its position, since the pulse before that, may come again.
		l.last = wire.ID{}
	}
	for c, p := range l.places {
		if slices.Contains(g.Channels, channelName(c)) {
			p.told, p.fresh = true, l.returned
		}
	}
	return nil
}

// behind says what the listener has not got of that.
func (l *listener) behind(to counts) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, p := range l.places {
		if p.next < to[c] {
			return fmt.Sprintf("node %d, channel %d: has %d of %d", l.node+1, c, p.next, to[c])
		}
	}
	return ""
}

// caughtUp waits until all have got everything up to there, and ends the test
// when something is wrong.
func (ls *listeners) caughtUp(to counts) {
	t := ls.pair.t
	t.Helper()
	behind := func() string {
		for _, l := range ls.all {
			if text := l.behind(to); text != "" {
				return text
			}
		}
		return ""
	}
	end := time.Now().Add(2 * wait)
	embedded.EventuallyEvery(t, "all clients have got everything", 3*wait, 10*time.Millisecond, func() bool {
		ls.good()
		text := behind()
		if text != "" && time.Now().After(end) {
			ls.fail("in vain: " + text)
		}
		return text == ""
	})
}

// flowing waits until messages flow, and returns what all have got of them.
func (ls *listeners) flowing() counts {
	ls.pair.t.Helper()
	ls.load.more(lossRate)
	got := ls.load.sent()
	ls.caughtUp(got)
	return got
}

// good ends the test when something is wrong.
func (ls *listeners) good() {
	t := ls.pair.t
	t.Helper()
	if !ls.spoiled.Load() {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i, text := range ls.wrong {
		if i == 4 {
			t.Errorf("… %d in all", len(ls.wrong))
			break
		}
		t.Error(text)
	}
	t.Log(ls.pair.trace(ls.wrong[0]))
	t.FailNow()
}

// told are gaps that clients were told of, by reason; none is false when some
// client was told of none.
func (ls *listeners) told() (reasons map[string]int, everyone bool) {
	reasons, everyone = map[string]int{}, true
	for _, l := range ls.all {
		l.mu.Lock()
		everyone = everyone && len(l.gaps) > 0
		for reason, n := range l.gaps {
			reasons[reason] += n
		}
		l.mu.Unlock()
	}
	return reasons, everyone
}

// missing says how many messages did not come, over all channels, which is the
// same for every node's clients, and calls f for each hole.
func (ls *listeners) missing(f func(c int, h hole)) (n int) {
	t := ls.pair.t
	t.Helper()
	sums := make([]int, len(ls.meters))
	for _, l := range ls.all {
		l.mu.Lock()
		for _, c := range slices.Sorted(maps.Keys(l.places)) {
			for _, h := range l.places[c].holes {
				sums[l.node] += h.to - h.from
				f(c, h)
			}
		}
		l.mu.Unlock()
	}
	if slices.Min(sums) != slices.Max(sums) {
		t.Errorf("the clients of each node miss %v messages", sums)
	}
	return sums[0]
}
