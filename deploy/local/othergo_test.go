package main

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"
)

// What the two Go clients do not do by themselves.

// r3labsAsItIs is what its README shows, again and again.
func r3labsAsItIs(ctx context.Context, url, from string, tell func(heard)) error {
	client := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(eventLimit))
	client.LastEventID.Store([]byte(from))
	for ctx.Err() == nil {
		_ = client.SubscribeRawWithContext(ctx, func(m *r3labs.Event) {
			if len(m.Data) > 0 {
				tell(heard{string(m.Event), string(m.Data), string(m.ID)})
			}
		})
		pause(ctx, comeBack)
	}
	return nil
}

// An event that is larger than its 64 KiB stops a Go client: it comes for the same
// event again and again.
func TestOtherClientsBuffers(t *testing.T) {
	o := newOthers(t, 1)
	id, _, addr := o.largeAt("o:1")
	url := "http://" + addr + "/events?channel=o:1&lastEventId=" + id
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	client := r3labs.NewClient(url)
	client.ReconnectStrategy = &backoff.StopBackOff{}
	for range 2 {
		if err := client.SubscribeRawWithContext(ctx, func(m *r3labs.Event) {
			if len(m.Data) > 1000 {
				t.Errorf("r3labs: %d bytes", len(m.Data))
			}
		}); !errors.Is(err, bufio.ErrTooLong) {
			t.Errorf("r3labs: %v", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	other := tmaxmax.Client{OnRetry: func(err error, in time.Duration) {
		if !errors.Is(err, bufio.ErrTooLong) {
			t.Errorf("tmaxmax: %v", err)
		}
		if in > 190*time.Millisecond {
			t.Errorf("tmaxmax waits for %s: it does not heed retry:", in)
		}
		if tries++; tries == 3 {
			cancel()
		}
	}}
	conn := other.NewConnection(req)
	conn.SubscribeToAll(func(e tmaxmax.Event) {
		if len(e.Data) > 1000 {
			t.Errorf("tmaxmax: %d bytes", len(e.Data))
		}
	})
	if err := conn.Connect(); !errors.Is(err, context.Canceled) || tries != 3 {
		t.Errorf("tmaxmax: %d tries, %v", tries, err)
	}
}

// recorder notes the Last-Event-ID of each request.
type recorder struct{ ids []string }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.ids = append(r.ids, req.Header.Get("Last-Event-ID"))
	return http.DefaultTransport.RoundTrip(req)
}

// tmaxmax/go-sse forgets the position of its first request when the connection breaks
// before an event has brought another.
func TestTmaxmaxForgets(t *testing.T) {
	o := newOthers(t, 1)
	id, _, addr := o.largeAt("o:1")
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cutAfter(t, addr, "event: connec")+"/events?channel=o:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", id)
	var sent recorder
	client := tmaxmax.Client{HTTPClient: &http.Client{Transport: &sent}}
	conn := client.NewConnection(req)
	conn.SubscribeEvent("connected", func(tmaxmax.Event) { cancel() })
	if err := conn.Connect(); !errors.Is(err, context.Canceled) || !slices.Equal(sent.ids, []string{id, ""}) {
		t.Errorf("came with %q, %v", sent.ids, err)
	}
}

// r3labs/sse takes the end of a stream for the end of its work, without an error.
func TestR3labsEnds(t *testing.T) {
	o := newOthers(t, 1)
	client := r3labs.NewClient(o.front.URL + "/events?channel=o:1")
	there := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- client.SubscribeRawWithContext(t.Context(), func(m *r3labs.Event) {
			if string(m.Event) == "connected" {
				close(there)
			}
		})
	}()
	select {
	case <-there:
	case <-time.After(wait):
		t.Fatal("it is not connected")
	}
	o.nodes[0].stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(wait):
		t.Error("it goes on")
	}
}

// It tries on after an answer that is final to others.
func TestR3labsTriesOn(t *testing.T) {
	o := newOthers(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	client := r3labs.NewClient(o.front.URL + "/nowhere")
	client.ReconnectStrategy = backoff.WithContext(&backoff.ConstantBackOff{Interval: 10 * time.Millisecond}, ctx)
	tries := 0
	client.ReconnectNotify = func(err error, _ time.Duration) {
		if tries++; tries == 3 {
			cancel()
		}
		if !strings.Contains(err.Error(), http.StatusText(http.StatusNotFound)) {
			t.Error(err)
		}
	}
	if err := client.SubscribeRawWithContext(ctx, func(*r3labs.Event) {}); err == nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}
