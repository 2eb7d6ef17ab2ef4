package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// heard is one event as a client gives it to whoever uses it.
type heard struct{ Name, Data, ID string }

// clientKind is a client that others have written, used as ssenode/README.md says.
type clientKind struct {
	name  string
	query string // of its URL, beside the channels
	// listen tells what it hears at url, from an id on if there is one. It returns when
	// ctx ends, and before that, with why, if it does not come back any more.
	listen func(ctx context.Context, url, from string, tell func(heard)) error
}

// eventLimit is what those clients are set to that take 64 KiB at most by default.
const eventLimit = 8 << 20

// comeBack is how soon those come back that have to be told to.
const comeBack = 100 * time.Millisecond

func clientKinds(t *testing.T) []clientKind {
	t.Helper()
	curl, node := embedded.NeedProgram(t, "curl"), embedded.NeedProgram(t, "node")
	dir := npmInstalled(t, "testdata/eventsource/*")
	return []clientKind{
		{"curl", "", byCurl(curl)},
		{"eventsource-3", "", byEventSource(node, dir, "eventsource-3")},
		{"eventsource-5", "", byEventSource(node, dir, "eventsource-5")},
		{"r3labs", "&wrap=1", byR3labs},
		{"tmaxmax", "", byTmaxmax},
	}
}

// byCurl is curl and whoever types: again with the last id, until it is refused.
func byCurl(program string) func(ctx context.Context, url, from string, tell func(heard)) error {
	return func(ctx context.Context, url, last string, tell func(heard)) error {
		for {
			var complaint bytes.Buffer
			cmd := exec.CommandContext(ctx, program, "-fsSN", "-H", "Last-Event-ID: "+last, url)
			cmd.Stderr = &complaint
			out, err := cmd.StdoutPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			r := sseclient.NewReader(out)
			for {
				ev, err := r.Next()
				if err != nil {
					break
				}
				if ev.HasID {
					last = ev.ID
				}
				if ev.Dispatched() {
					tell(heard{ev.Name, ev.Data, ev.ID})
				}
			}
			err = cmd.Wait()
			if ctx.Err() != nil {
				return nil
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 22 {
				return fmt.Errorf("%w: %s", err, complaint.String())
			}
			pause(ctx, comeBack)
		}
	}
}

// byEventSource is a Node program with an EventSource of the npm package.
func byEventSource(node, dir, name string) func(ctx context.Context, url, from string, tell func(heard)) error {
	return func(ctx context.Context, url, from string, tell func(heard)) error {
		if from != "" {
			url += "&lastEventId=" + from
		}
		cmd := exec.CommandContext(ctx, node, "listen.mjs", name, url)
		return readEventSource(ctx, cmd, dir, tell)
	}
}

// readEventSource runs listen.mjs until the EventSource is closed for good, or the
// program ends by itself.
func readEventSource(ctx context.Context, cmd *exec.Cmd, dir string, tell func(heard)) error {
	var complaint bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &complaint
	in, err := cmd.StdinPipe() // it ends with this
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var closed error
	for lines := json.NewDecoder(out); ; {
		var line struct {
			heard
			Error  *string
			Closed bool
		}
		if lines.Decode(&line) != nil {
			break
		}
		switch {
		case line.Closed:
			closed = fmt.Errorf("closed: %s", *line.Error)
			in.Close()
		case line.Error == nil:
			tell(line.heard)
		}
	}
	err = cmd.Wait()
	switch {
	case closed != nil:
		return closed
	case ctx.Err() != nil:
		return nil
	default:
		return fmt.Errorf("the program has ended: %v: %s", err, complaint.String())
	}
}

// byR3labs is r3labs/sse in a loop of one's own, with events that tell whether they
// are whole: wrap=1 makes each an object.
func byR3labs(ctx context.Context, url, from string, tell func(heard)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var refused error
	client := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(eventLimit))
	client.ReconnectStrategy = &backoff.StopBackOff{}
	client.ResponseValidator = func(_ *r3labs.Client, resp *http.Response) error {
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden:
			refused = errors.New(resp.Status)
			cancel()
		}
		resp.Body.Close()
		return errors.New(resp.Status)
	}
	seen, safe := []byte(from), []byte(from)
	for ctx.Err() == nil {
		client.LastEventID.Store(safe)
		// How it ended does not matter: it is to be opened anew.
		_ = client.SubscribeRawWithContext(ctx, func(m *r3labs.Event) {
			safe = seen // what came before this one was whole
			seen = m.ID
			if json.Valid(m.Data) {
				safe = seen
				tell(unwrapped(m))
			}
		})
		seen = safe
		pause(ctx, comeBack)
	}
	return refused
}

// unwrapped is an event as it were without wrap=1.
func unwrapped(m *r3labs.Event) heard {
	var event struct {
		Event *string
		Data  json.RawMessage
	}
	h := heard{Name: string(m.Event), Data: string(m.Data), ID: string(m.ID)}
	if h.Name != "" || json.Unmarshal(m.Data, &event) != nil {
		return h
	}
	h.Data = string(event.Data)
	if event.Event != nil {
		h.Name = *event.Event
	} else if json.Unmarshal(event.Data, &h.Data) != nil {
		h.Data = string(event.Data)
	}
	return h
}

// byTmaxmax is tmaxmax/go-sse. What has neither a name nor data is a heartbeat.
func byTmaxmax(ctx context.Context, url, from string, tell func(heard)) error {
	if from != "" {
		url += "&lastEventId=" + from
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := tmaxmax.Client{Backoff: tmaxmax.Backoff{MaxInterval: time.Second}}
	conn := client.NewConnection(req)
	conn.Buffer(nil, eventLimit)
	conn.SubscribeToAll(func(e tmaxmax.Event) {
		if e.Type != "" || e.Data != "" {
			tell(heard{e.Type, e.Data, e.LastEventID})
		}
	})
	if err = conn.Connect(); ctx.Err() != nil {
		return nil
	}
	return err
}
