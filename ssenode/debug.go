package ssenode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/wire"
)

// What the admin port answers to "why did user X not get message Y", for all nodes:
// each is asked, as for presence.

const (
	// fewListed is how many are listed if nobody says how many.
	fewListed      = 100
	longestSubject = 4096 // bytes
	// whyLimit bounds what the stream is asked for one message.
	whyLimit = 3 * time.Second
)

// debugError is an answer that is an error.
type debugError struct {
	status int
	text   string
}

func (e *debugError) Error() string { return e.text }

func debugBad(format string, args ...any) error {
	return &debugError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// serveDebug adds the questions to the admin port.
func (n *Node) serveDebug() {
	for path, f := range map[string]func(context.Context, *debugQuery) (any, error){
		"/debug/clients": n.debugClients,
		"/debug/closes":  n.debugCloses,
		"/debug/why":     n.debugWhy,
	} {
		n.admin.Handle("GET "+path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer, err := n.debugAnswer(r, f)
			status := http.StatusOK
			if err != nil {
				status = http.StatusInternalServerError
				var e *debugError
				switch {
				case errors.As(err, &e):
					status = e.status
				case errors.Is(err, control.ErrAway) || errors.Is(err, control.ErrBusy):
					status = http.StatusServiceUnavailable
				}
				answer = problem{Error: err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
			_, _ = w.Write(append(toJSON(answer), '\n'))
		}))
	}
}

func (n *Node) debugAnswer(r *http.Request, f func(context.Context, *debugQuery) (any, error)) (any, error) {
	if err := n.mayDebug(r); err != nil {
		return nil, err
	}
	q, err := parseDebug(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return f(r.Context(), q)
}

// mayDebug tells whether who asks may know who is connected. That is who is on this
// machine, as a forwarded port is, or has a key: metrics are for more than that. A page
// in a browser here is not, also if its host name was made to lead here.
func (n *Node) mayDebug(r *http.Request) error {
	if n.guard.HasKey(r.Header.Values("Authorization")) {
		return nil
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if err == nil && net.ParseIP(from).IsLoopback() && (host == "localhost" || net.ParseIP(host) != nil) && r.Header.Get("Origin") == "" {
		return nil
	}
	return &debugError{http.StatusForbidden, "Forbidden: ask from this machine, by an address or localhost, or with a key of SSENODE_API_KEYS"}
}

// debugQuery is what is asked.
type debugQuery struct {
	wire.Inspect
	name string // of the channel, as given
	id   string
}

func parseDebug(values url.Values) (*debugQuery, error) {
	q := &debugQuery{Inspect: wire.Inspect{Most: fewListed}}
	for name, list := range values {
		if len(list) != 1 {
			return nil, debugBad("%s: want one", clip(name))
		}
		v, err := list[0], error(nil)
		switch name {
		case "client":
			if !nodeName.MatchString(v) {
				return nil, debugBad("client=%q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", clip(v))
			}
			q.ClientID = v
		case "sub":
			if v == "" || len(v) > longestSubject {
				return nil, debugBad("sub= has %d bytes: want the subject of tokens, at most %d", len(v), longestSubject)
			}
			q.Subject = v
		case "channel":
			if q.Channel, err = channel.Subject(v); err != nil {
				return nil, debugBad("channel=%q: %v", clip(v), err)
			}
			q.name = v
		case "id":
			q.id = v
		case "attributes":
			if q.Attributes, err = strconv.ParseBool(v); err != nil {
				return nil, debugBad("attributes=%q: want 1", clip(v))
			}
		case "limit":
			if q.Most, err = strconv.Atoi(v); err != nil || q.Most < 1 || q.Most > wire.MostListed {
				return nil, debugBad("limit=%q: want a number, 1 to %d", clip(v), wire.MostListed)
			}
		default:
			return nil, debugBad("%s: there is no such parameter", clip(name))
		}
	}
	if q.ClientID != "" && q.Subject != "" {
		return nil, debugBad("client and sub: want one of them")
	}
	return q, nil
}

// inspectedAll is what nodes have said together.
type inspectedAll struct {
	wire.Inspected
	complete bool
	missing  []string // names of nodes
	since    []remembered
}

// remembered tells since when a node knows all closes, losses and refusals.
type remembered struct {
	Node          string `json:"node"`
	ClosesSince   string `json:"closesSince"`
	LossesSince   string `json:"lossesSince"`
	RefusalsSince string `json:"refusalsSince"`
}

func (n *Node) inspectAll(ctx context.Context, q *wire.Inspect) (all inspectedAll, err error) {
	answers, err := n.asker.Ask(ctx, wire.VerbInspect, q)
	if err != nil {
		return all, err
	}
	all.complete, all.missing = answers.Complete, answers.Missing
	slices.SortFunc(answers.List, func(a, b wire.Answer) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range answers.List {
		var one wire.Inspected
		if err := wire.DecodeControl(a.Body, &one); err != nil {
			all.complete, all.missing = false, append(all.missing, a.Name)
			continue
		}
		all.Count, all.Cut = all.Count+one.Count, all.Cut || one.Cut
		all.Clients = append(all.Clients, one.Clients...)
		all.Closes = append(all.Closes, one.Closes...)
		all.Losses = append(all.Losses, one.Losses...)
		all.Refusals = append(all.Refusals, one.Refusals...)
		if q.Closes {
			all.since = append(all.since, remembered{a.Name, one.ClosesSince.Format(timestamps), one.LossesSince.Format(timestamps), one.RefusalsSince.Format(timestamps)})
		}
	}
	slices.Sort(all.missing)
	slices.SortStableFunc(all.Closes, func(a, b wire.InspectedClose) int { return strings.Compare(b.ClosedAt, a.ClosedAt) })
	slices.SortStableFunc(all.Losses, func(a, b wire.InspectedLoss) int { return strings.Compare(b.At, a.At) })
	slices.SortStableFunc(all.Refusals, func(a, b wire.InspectedRefusal) int { return strings.Compare(b.At, a.At) })
	all.Refusals, all.Cut = first(all.Refusals, q.Most, all.Cut)
	all.Clients, all.Cut = first(all.Clients, q.Most, all.Cut)
	all.Closes, all.Cut = first(all.Closes, q.Most, all.Cut)
	all.Losses, all.Cut = first(all.Losses, q.Most, all.Cut)
	return all, nil
}

// first are the first of a list, which is not nil; cut tells that there are others.
func first[T any](list []T, most int, cut bool) ([]T, bool) {
	if len(list) > most {
		return list[:most], true
	}
	if list == nil {
		list = []T{}
	}
	return list, cut
}

// clientsDebug is the body of an answer to GET /debug/clients.
type clientsDebug struct {
	Count     int                    `json:"count"`
	Complete  bool                   `json:"complete"`
	Missing   []string               `json:"missing,omitempty"`
	Truncated bool                   `json:"truncated"`
	Clients   []wire.InspectedClient `json:"clients"`
}

func (n *Node) debugClients(ctx context.Context, q *debugQuery) (any, error) {
	if q.ClientID == "" && q.Subject == "" && q.Channel == "" || q.Channel != "" && q.ClientID+q.Subject != "" || q.id != "" {
		return nil, debugBad("want one of ?client=ID, ?sub=SUBJECT and ?channel=NAME")
	}
	q.Clients = true
	all, err := n.inspectAll(ctx, &q.Inspect)
	if err != nil {
		return nil, err
	}
	return clientsDebug{all.Count, all.complete, all.missing, all.Cut, all.Clients}, nil
}

// closesDebug is the body of an answer to GET /debug/closes, and part of one to /debug/why.
type closesDebug struct {
	Complete  bool                    `json:"complete"`
	Missing   []string                `json:"missing,omitempty"`
	Truncated bool                    `json:"truncated"`
	Nodes     []remembered            `json:"nodes"`
	Closes    []wire.InspectedClose   `json:"closes"`
	Losses    []wire.InspectedLoss    `json:"losses"`
	Refusals  []wire.InspectedRefusal `json:"refusals"`
}

func (n *Node) debugCloses(ctx context.Context, q *debugQuery) (any, error) {
	if q.Channel != "" || q.id != "" || q.Attributes {
		return nil, debugBad("want ?client=ID, ?sub=SUBJECT or neither, and limit=")
	}
	q.Closes = true
	all, err := n.inspectAll(ctx, &q.Inspect)
	if err != nil {
		return nil, err
	}
	return all.closes(), nil
}

func (all *inspectedAll) closes() closesDebug {
	return closesDebug{all.complete, all.missing, all.Cut, all.since, all.Closes, all.Losses, all.Refusals}
}
