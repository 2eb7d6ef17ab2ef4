package ssenode

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/shared/route"
)

func TestPoll(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	table, err := route.Parse("bills initial=1")
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, u, func(c *Config) { c.Routes = *table })
	poll := func(path string) pollAnswer {
		t.Helper()
		resp, body := get(t, "GET", base(n)+path)
		status := resp.StatusCode
		var a pollAnswer
		if err := json.Unmarshal([]byte(body), &a); status != 200 || err != nil || a.Events == nil {
			t.Fatalf("%s: %d %s, %v", path, status, body, err)
		}
		return a
	}
	texts := func(a pollAnswer) (list []string) {
		for _, e := range a.Events {
			list = append(list, e.Channel+"="+e.Data)
		}
		return list
	}
	u.publish("bills", "paid")
	// Without a position: what is initial, and the position, at once.
	a := poll("/poll?channel=bills&channel=a")
	if fmt.Sprint(texts(a)) != "[bills=paid]" || a.LastEventID == "" || a.Gap != nil {
		t.Fatalf("first answer %+v", a)
	}
	u.publish("a", `{"event":"named","data":{"x":1}}`)
	u.publish("b", "not asked for")
	seq := u.publish("a", "two\nlines")
	until(t, "the node has it", func() bool { return n.dispatch.head.Load() > seq })
	a = poll("/poll?channel=bills&channel=a&lastEventId=" + a.LastEventID)
	if fmt.Sprint(texts(a)) != `[a={"x":1} a=two`+"\n"+`lines]` || *a.Events[0].Event != "named" || a.Events[1].Event != nil || *a.Events[1].ID != idOf(seq) || seqOf(t, a.LastEventID) < seq {
		t.Fatalf("%+v", a)
	}
	// Idle: waits, answers empty, and does not go back.
	start := time.Now()
	b := poll("/poll?channel=bills&channel=a&timeout=1&lastEventId=" + a.LastEventID)
	if len(b.Events) != 0 || time.Since(start) < 900*time.Millisecond || seqOf(t, b.LastEventID) < seqOf(t, a.LastEventID) {
		t.Errorf("idle: %+v after %s", b, time.Since(start))
	}
	// An event ends the wait.
	time.AfterFunc(100*time.Millisecond, func() { u.publish("a", "now") })
	if c := poll("/poll?channel=a&timeout=9&lastEventId=" + b.LastEventID); fmt.Sprint(texts(c)) != "[a=now]" {
		t.Errorf("%+v", c)
	}
	if c := poll("/poll?channel=a&lastEventId=garbage"); c.Gap == nil || c.Gap.Reason != gapUnknownID {
		t.Errorf("%+v", c)
	}
	// Nothing is lost between polls, however they fall.
	var publishing sync.WaitGroup
	defer publishing.Wait() // for the last acknowledgement, which may be later than the event
	publishing.Go(func() {
		for i := range 300 {
			u.publish("run", fmt.Sprint(i))
		}
	})
	id := b.LastEventID
	for expect := 0; expect < 300; {
		c := poll("/poll?channel=run&timeout=5&lastEventId=" + id)
		for _, e := range c.Events {
			if e.Data != fmt.Sprint(expect) {
				t.Fatalf("got %s, want %d", e.Data, expect)
			}
			expect++
		}
		id = c.LastEventID
	}
	for _, bad := range []string{"/poll", "/poll?channel=a&timeout=x", "/poll?channel=a&timeout=56", "/poll?channel=a&initial=-1"} {
		if resp, body := get(t, "GET", base(n)+bad); resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, body)
		}
	}
}
