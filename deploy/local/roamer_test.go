package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"sluice/shared/sseclient"
	"sluice/shared/wire"
)

// roamer is a client that comes and goes, to any node, as a browser does.
type roamer struct {
	addrs []string // of nodes
	// client connects by https; nil: by http, with a connection for each visit.
	client *http.Client
	pad    string // at the end of each message
	query  string
	takes  func(channel string) bool
	rng    *rand.Rand
	id     string
	// next is the number expected of each channel, safe what it was at the last
	// id: between the two a return may begin.
	next, safe map[string]int
	steps      int
	ups        atomic.Int64 // it is read beside the roaming
	got        int          // messages
	// has counts messages, each once; read by the publisher.
	has   atomic.Int64
	trace []string
	gaps  map[string]int
	// met is called with the node's name once it is connected; it may be nil.
	met func(node string)
	// Of the last visit: when it was told to come back, and whether by the last words of
	// the stream.
	retry time.Duration
	told  bool
}

// visit connects once and reads until the deadline, or done.
func (r *roamer) visit(ctx context.Context, done func() bool) error {
	addr := r.addrs[r.rng.IntN(len(r.addrs))]
	scheme := "http://"
	if r.client != nil {
		scheme = "https://"
	}
	st, err := sseclient.Open(ctx, scheme+addr+"/events?"+r.query, sseclient.Options{LastEventID: r.id, Client: r.client})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("connect: %w", err)
	}
	defer st.Close()
	r.ups.Add(1)
	r.trace = append([]string(nil), r.trace[max(0, len(r.trace)-8):]...) // it may live for long
	r.trace = append(r.trace, fmt.Sprintf("%s visit %s %s", time.Now().Format("05.000"), addr, r.id))
	back := map[string]bool{} // channels heard of since
	repeats := false          // told that more than that may come again
	r.told = false
	for !done() {
		ev, err := st.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return nil // the node closed it, for a reason of its own
		}
		r.steps++
		if ev.HasRetry {
			r.told, r.retry = true, ev.Retry
		} else if ev.HasData {
			r.told = false
		}
		switch {
		case ev.Name == "connected":
			var about struct{ Node string }
			if err := json.Unmarshal([]byte(ev.Data), &about); err != nil {
				return err
			}
			if r.met != nil {
				r.met(about.Node)
			}
		case ev.Name == "gap":
			var g struct{ Reason string }
			if err := json.Unmarshal([]byte(ev.Data), &g); err != nil {
				return err
			}
			r.gaps[g.Reason]++
			if g.Reason != "upstream" {
				return fmt.Errorf("gap %s", ev.Data)
			}
			// Everything since a pulse before its position comes again.
			repeats = true
			clear(back)
			clear(r.safe)
		case ev.Name == "" && ev.HasData:
			name, rest, _ := strings.Cut(ev.Data, " ")
			number, pad, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(number)
			if err != nil || !r.takes(name) || pad != r.pad && pad != largePad {
				return fmt.Errorf("unexpected %.60q", ev.Data)
			}
			next, known := r.next[name]
			switch {
			case !known && r.id == "":
			case !back[name] && n <= next && (n >= r.safe[name] || repeats):
			case n == next:
			default:
				return fmt.Errorf("%.60s with id %q: expected %d (%d was safe, first since the return: %v, position %s) %q", ev.Data, ev.ID, next, r.safe[name], !back[name], r.id, r.trace[max(0, len(r.trace)-8):])
			}
			back[name] = true
			r.has.Add(int64(max(0, n+1-next)))
			r.next[name] = n + 1
			r.got++
		}
		if ev.HasID {
			r.trace = append(r.trace, fmt.Sprintf("%s %s %.60q %q", time.Now().Format("05.000"), ev.ID, ev.Data, ev.Comment))
			if a, err := wire.ParseID(ev.ID); err != nil {
				return err
			} else if b, err := wire.ParseID(r.id); err == nil && a.Epoch == b.Epoch && a.Seq < b.Seq && !repeats {
				return fmt.Errorf("position goes back from %s with %+v %q", r.id, ev, r.trace[max(0, len(r.trace)-8):])
			}
			r.id = ev.ID
			// What was given without an id before this visit may still come again.
			for name := range back {
				r.safe[name] = r.next[name]
			}
		}
	}
	return nil
}
