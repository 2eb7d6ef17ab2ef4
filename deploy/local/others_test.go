package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// others are an installation and clients that others have written. Each reaches the
// nodes over a hop of its own, which can be cut, and a front that they share.
type others struct {
	*site
	kinds []clientKind
	front *httptest.Server
	all   []*other

	mu   sync.Mutex // guards came
	came map[string][]arrival
}

// arrival is a request of a client.
type arrival struct {
	at time.Time
	id string // the position that it has come with, "" for none
}

func newOthers(t *testing.T, nodes int, env ...string) *others {
	t.Helper()
	kinds := clientKinds(t) // what is missing is to be told first
	o := &others{kinds: kinds, came: map[string][]arrival{}}
	o.site = newSite(t, embedded.NATSProcessOptions{}, nodes, append([]string{
		"SSENODE_RETRY=100ms", "SSENODE_HEARTBEAT=500ms", "ROUTES=o:> history=20000/10m",
	}, env...)...)
	front := newFront(nil, o.addrs(), "", slog.New(slog.DiscardHandler))
	o.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		name := r.URL.Query().Get("clientId")
		o.came[name] = append(o.came[name], arrival{time.Now(), r.Header.Get("Last-Event-ID")})
		o.mu.Unlock()
		front.ServeHTTP(w, r)
	}))
	o.front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // of streams that are cut
	o.front.Start()
	t.Cleanup(o.front.Close)
	return o
}

// ids are the positions that a client has come with.
func (o *others) ids(name string) (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.came[name] {
		list = append(list, a.id)
	}
	return list
}

// soonest is the least time after which a client has come again, its first n requests
// left out.
func (o *others) soonest(name string, n int) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	least := time.Duration(math.MaxInt64)
	for i, a := range o.came[name] {
		if i > n {
			least = min(least, a.at.Sub(o.came[name][i-1].at))
		}
	}
	return least
}

// other is one such client at work.
type other struct {
	t    *testing.T
	kind clientKind
	hop  *embedded.Proxy
	done chan struct{} // closed when it does not come back any more
	why  error         // then

	mu     sync.Mutex // guards the following fields
	events []heard
	node   string // where it is connected
	visits int    // how often it was
	gaps   []string
	back   int // visits that it has to have made to be settled
	far    int // events that it has to have heard then
}

// begin lets one client of each kind listen over the front; query names channels.
func (o *others) begin(t *testing.T, query, from string) {
	t.Helper()
	o.beginKinds(t, o.kinds, query, from)
}

func (o *others) beginKinds(t *testing.T, kinds []clientKind, query, from string) {
	t.Helper()
	for _, k := range kinds {
		hop := embedded.TestProxy(t, o.front.Listener.Addr().String())
		o.all = append(o.all, beginOther(t, k, hop, "http://"+hop.Addr()+"/events?clientId="+k.name+"&"+query+k.query, from))
	}
}

// beginOther lets a client listen until the test ends.
func beginOther(t *testing.T, k clientKind, hop *embedded.Proxy, url, from string) *other {
	c := &other{t: t, kind: k, hop: hop, back: 1, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(c.done)
		c.why = k.listen(ctx, url, from, c.hear)
	}()
	t.Cleanup(func() {
		cancel()
		<-c.done
		if t.Failed() {
			last := c.events[max(0, len(c.events)-3):]
			t.Logf("%s: %d visits, at %s, gaps %q, %d events, the last %.60q, ended with %v", k.name, c.visits, c.node, c.gaps, len(c.events), last, c.why)
		}
	})
	return c
}

// hear takes what the client tells: what the node says of itself apart.
func (c *other) hear(h heard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h.Name {
	case "connected":
		var about struct{ Node string }
		if err := json.Unmarshal([]byte(h.Data), &about); err != nil {
			c.t.Errorf("%s: %q: %v", c.kind.name, h.Data, err)
		}
		c.node = about.Node
		c.visits++
	case "gap":
		c.gaps = append(c.gaps, h.Data)
	case "token-expiring":
	default:
		c.events = append(c.events, h)
	}
}

// toldGaps returns the gaps that the client was told, and forgets them.
func (c *other) toldGaps() (gaps []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gaps, c.gaps = c.gaps, nil
	return gaps
}

// data are those of the events that the client has heard.
func (c *other) data() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.events {
		list = append(list, h.Data)
	}
	return list
}

// leaves notes that the client is about to lose its connection: it is settled once it
// has come back and hears more.
func (c *other) leaves() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back, c.far = c.visits+1, len(c.events)+5
}

// cut cuts its connection.
func (c *other) cut() {
	c.leaves()
	c.hop.Cut()
}

// at is the node that the client is connected to.
func (c *other) at() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// settled says whether the client is connected, and gets events with ids: what came
// without one may come again.
func (c *other) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.events)
	return c.visits >= c.back && n >= max(c.far, 2) && c.events[n-1].ID != c.events[n-2].ID
}

// until waits for something that only a client which goes on can bring about.
func (c *other) until(what string, f func() bool) {
	c.t.Helper()
	eventually(c.t, c.kind.name+" "+what, func() bool {
		if f() {
			return true
		}
		select {
		case <-c.done:
			c.t.Fatalf("%s has ended before it %s: %v", c.kind.name, what, c.why)
		default:
		}
		return false
	})
}

// settle waits until all are settled.
func (o *others) settle() {
	o.t.Helper()
	for _, c := range o.all {
		c.until("hears events with ids", c.settled)
	}
}

// numbered is the payload of message n: each second one has a name, and some are larger
// than what two of the clients take by default.
func numbered(n int) string {
	h := numberedEvent(n)
	if h.Name == "" {
		return h.Data
	}
	return fmt.Sprintf(`{"event":%q,"data":%s}`, h.Name, h.Data)
}

// numberedEvent is what a client hears of it.
func numberedEvent(n int) heard {
	h := heard{Data: fmt.Sprintf("message %d", n)}
	if n%100 == 50 {
		h.Data = fmt.Sprintf("message %d%0100000d\nand a line", n, 0)
	}
	if n%2 == 1 {
		h.Name, h.Data = "tick", toJSON(h.Data)
	}
	return h
}

// mustHave waits for all messages from first to before n, each once, in order, and
// nothing else.
func (c *other) mustHave(first, n int) {
	c.t.Helper()
	checked, wrong := 0, ""
	c.until("has everything", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for ; checked < len(c.events) && wrong == ""; checked++ {
			h, number := c.events[checked], first+checked
			want := numberedEvent(number)
			if number >= n || h.Name != want.Name || h.Data != want.Data {
				wrong = fmt.Sprintf("event %d is %.60q of %q, want %.60q of %q before %d", number, h.Data, h.Name, want.Data, want.Name, n)
			}
		}
		return wrong != "" || checked >= n-first
	})
	if wrong != "" {
		c.t.Errorf("%s: %s", c.kind.name, wrong)
	}
	if gaps := c.toldGaps(); len(gaps) > 0 {
		c.t.Errorf("%s: gaps %q", c.kind.name, gaps)
	}
}

// keep listens to a channel at each node as long as the test lasts, so that events have
// their ids from then on.
func (o *others) keep(channel string) {
	o.t.Helper()
	for i := range o.nodes {
		st := o.open(i, "/events?clientId=keeper&channel="+channel)
		positioned(o.t, st)
		go func() {
			for {
				if _, err := st.NextWithin(wait); err != nil {
					return // it is closed with the test, or with the node
				}
			}
		}()
	}
}

// position is the id of one of the messages on a channel, and the number of the next.
func (o *others) position(channel string) (id string, next int) {
	o.t.Helper()
	st := o.open(0, "/events?clientId=looker&channel="+channel)
	defer st.Close()
	for {
		ev, err := st.NextData(wait)
		if err != nil {
			o.t.Fatal(err)
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(ev.Data, "message ")); err == nil && ev.ID != "" {
			return ev.ID, n + 1
		}
	}
}
