package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// These tests show what ssenode/README.md says that a client cannot do by itself: who
// sees one fail with a newer version of the client may shorten the README.

// largeAt publishes message 49, a large one and two more, and returns the ids of the
// first two, and the node's address.
func (o *others) largeAt(channel string) (first, large, addr string) {
	o.t.Helper()
	st := o.open(0, "/events?channel="+channel)
	defer st.Close()
	positioned(o.t, st)
	for n := 49; n < 53; n++ {
		o.publish(channel, numbered(n))
		switch ev := next(o.t, st); n {
		case 49:
			first = ev.ID
		case 50:
			large = ev.ID
		}
	}
	return first, large, o.addrs()[0]
}

// A connection ends in the middle of an event, in a line of it or between two, and the
// end looks like any other: the event comes again, whole.
func TestOtherClientsCutInAnEvent(t *testing.T) {
	o := newOthers(t, 1)
	id, large, addr := o.largeAt("o:1")
	begin := func(k clientKind, marker string) *other {
		t.Helper()
		url := "http://" + cutAfter(t, addr, marker) + "/events?channel=o:1" + k.query
		return beginOther(t, k, nil, url, id)
	}
	const inLine, endOfLine = "message 50000", "00000\n"
	endOfID := "id: " + large + "\n"
	var whole []*other
	for _, k := range o.kinds {
		for _, marker := range []string{inLine, endOfLine, endOfID} {
			if k.name == "tmaxmax" && marker != inLine || k.name == "r3labs" && marker == endOfLine {
				continue // see below; with wrap=1 an event is one line
			}
			whole = append(whole, begin(k, marker))
		}
	}
	for _, c := range whole {
		c.mustHave(50, 53)
		if c.visits != 2 {
			t.Errorf("%s: %d visits", c.kind.name, c.visits)
		}
	}
	// f checks that a client has got other things, and then what follows.
	f := func(c *other, events ...string) {
		t.Helper()
		events = append(events, numberedEvent(51).Data, numberedEvent(52).Data)
		c.until("has all it gets", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.events) >= len(events)
		})
		for i, h := range c.events {
			if i >= len(events) || h.Data != events[i] {
				t.Errorf("%s: event %d is %.40q with %d bytes", c.kind.name, i, h.Data, len(h.Data))
			}
		}
	}
	asItIs := clientKind{name: "r3labs as it is", listen: r3labsAsItIs}
	line, _, _ := strings.Cut(numberedEvent(50).Data, "\n")
	f(begin(asItIs, inLine), inLine)
	f(begin(asItIs, endOfLine), line)
	f(begin(asItIs, endOfID))
	tmaxmax := o.kinds[len(o.kinds)-1]
	f(begin(tmaxmax, endOfLine), line)
	f(begin(tmaxmax, endOfID))
}

// Heartbeats give a position to whoever has not heard an event yet, so that what comes
// while it is away is not lost. Only eventsource 3 does not take it, unless it begins
// from one that it has asked for.
func TestOtherClientsQuiet(t *testing.T) {
	o := newOthers(t, 1)
	o.keep("o:1")
	o.begin(t, "channel=o:1", "")
	_, body := fetch(t, o.url(0)+"/poll?channel=o:1")
	var position struct{ LastEventID string }
	if err := json.Unmarshal([]byte(body), &position); err != nil || position.LastEventID == "" {
		t.Fatalf("%s: %v", body, err)
	}
	asked := o.kinds[1]
	asked.name += ".asked"
	o.beginKinds(t, []clientKind{asked}, "channel=o:1", position.LastEventID)
	for _, c := range o.all {
		c.until("is there", func() bool { return c.at() != "" })
	}
	deaf := o.all[1]
	for _, c := range o.all {
		if c != deaf && c.kind.name != asked.name {
			eventually(t, c.kind.name+" comes with a position", func() bool {
				before := len(o.ids(c.kind.name))
				c.cut()
				c.until("comes", func() bool { return len(o.ids(c.kind.name)) > before })
				ids := o.ids(c.kind.name)
				return ids[len(ids)-1] != ""
			})
		}
		c.leaves()
		c.hop.Shut()
	}
	eventually(t, "they are gone", func() bool { return o.nodes[0].metric("sluice_ssenode_connections") == 1 })
	o.publish("o:1", numbered(0))
	for _, c := range o.all {
		c.hop.Reopen()
		c.until("is back", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.visits >= c.back
		})
	}
	o.publish("o:1", numbered(1))
	o.publish("o:1", numbered(2))
	for _, c := range o.all {
		first := 0
		if c == deaf {
			first = 1
		}
		c.mustHave(first, 3)
	}
}

// A program that has nothing else to do is ended by eventsource 5 when a connection is
// lost, not by eventsource 3.
func TestEventSourceAlone(t *testing.T) {
	o := newOthers(t, 1)
	node := embedded.NeedProgram(t, "node")
	dir := npmInstalled(t, "testdata/eventsource/*")
	for i, name := range []string{"eventsource-3", "eventsource-5"} {
		alone := clientKind{name: name, listen: func(ctx context.Context, url, _ string, tell func(heard)) error {
			return readEventSource(ctx, exec.CommandContext(ctx, node, "listen.mjs", name, url, "alone"), dir, tell)
		}}
		o.beginKinds(t, []clientKind{alone}, "channel=o:1", "")
		c := o.all[i]
		c.until("is there", func() bool { return c.at() != "" })
		c.cut()
		if name == "eventsource-3" {
			c.until("comes back", func() bool { return len(o.ids(name)) == 2 })
			continue
		}
		select {
		case <-c.done:
		case <-time.After(wait):
			t.Fatalf("%s goes on", name)
		}
		if ids := o.ids(name); len(ids) != 1 || !strings.Contains(c.why.Error(), "ended: <nil>") {
			t.Errorf("%s came %d times, %v", name, len(ids), c.why)
		}
	}
}

// An event without a name and data may be a heartbeat to a Go client, so that a payload
// that is empty is not seen without wrap=1.
func TestOtherClientsEmptyPayload(t *testing.T) {
	o := newOthers(t, 1)
	o.begin(t, "channel=o:1", "")
	for _, c := range o.all {
		c.until("is there", func() bool { return c.at() != "" })
	}
	o.publish("o:1", "")
	o.publish("o:1", numbered(0))
	for _, c := range o.all {
		want := []string{"", numbered(0)}
		if c.kind.name == "tmaxmax" {
			want = want[1:]
		}
		c.until("has everything", func() bool { return slices.Equal(c.data(), want) })
	}
}
