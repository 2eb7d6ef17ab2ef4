package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// readyLimit bounds how long a channel that is new to this node is waited for before
// streams begin with it, so that the answer comes while it is waited for.
const readyLimit = 300 * time.Millisecond

// changeRequest is the body of POST /subscribe and /unsubscribe; what else is in it is
// not looked at.
type changeRequest struct {
	ClientID string  `json:"clientId"`
	Channel  *string `json:"channel"` // the empty one has a name, too
}

// changeAnswer is the answer.
type changeAnswer struct {
	Success     bool  `json:"success"`
	Connections int   `json:"connections"`
	Refused     int   `json:"refused,omitempty"`  // that have too many, or are too slow
	Complete    *bool `json:"complete,omitempty"` // false, or not there
}

var (
	errBehind       = errors.New("the stream is too slow: too many changes of its channels wait")
	errUnknownPlace = errors.New("the channel's place in the stream is not known yet: try again")
	errLonger       = &badRequest{status: http.StatusForbidden, text: "Forbidden: the stream's token ends later than this one; POST /refresh with this one first, or show the stream's"}
	errFull         = "%d channels and patterns on one connection: it has as many already"
)

// serveChange adds a channel to the connections of a client, or takes it from them,
// whichever nodes they are on.
func (n *Node) serveChange(ctx *fasthttp.RequestCtx, verb string) {
	ask, err := n.changeOf(ctx, verb)
	if err != nil {
		n.failed(ctx, err)
		return
	}
	answers, err := n.asker.Ask(context.Background(), verb, ask)
	if err != nil {
		n.failed(ctx, err)
		return
	}
	var sum wire.Changed
	for _, one := range control.Bodies[wire.Changed](&answers) {
		sum.Add(one)
	}
	switch {
	case sum.Connections > 0:
		answer := changeAnswer{Success: true, Connections: sum.Connections, Refused: sum.Full + sum.Behind + sum.Late + sum.Longer}
		if !answers.Complete {
			answer.Complete = new(bool)
		}
		n.answer(ctx, http.StatusOK, answer)
	case sum.Behind > 0:
		n.failed(ctx, errBehind)
	case sum.Late > 0:
		n.failed(ctx, errUnknownPlace)
	case sum.Full > 0:
		n.refuse(ctx, bad(errFull, n.cfg.SSENode.MaxChannels))
	case sum.Longer > 0:
		n.refuse(ctx, errLonger)
	case !answers.Complete:
		n.failed(ctx, errIncomplete)
	default:
		n.refuse(ctx, &badRequest{status: http.StatusNotFound, text: "no connection of yours has clientId " + ask.ClientID})
	}
}

// changeOf reads the request, and decides as for connecting whether it is granted.
func (n *Node) changeOf(ctx *fasthttp.RequestCtx, verb string) (*wire.Change, error) {
	params, err := parseQuery(string(ctx.URI().QueryString()))
	if err != nil {
		return nil, err
	}
	id, err := n.identify(ctx, params)
	if err != nil {
		return nil, err
	}
	var q changeRequest
	body := ctx.PostBody()
	if err := json.Unmarshal(body, &q); err != nil || q.Channel == nil || !utf8.Valid(body) {
		return nil, bad(`the body is not {"clientId":"…","channel":"…"} in UTF-8`)
	}
	if !nodeName.MatchString(q.ClientID) {
		return nil, bad("clientId %q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", clip(q.ClientID))
	}
	p, err := channel.Exact(*q.Channel)
	if err != nil {
		return nil, bad("channel %q: %v", clip(*q.Channel), err)
	}
	if err := n.mayChange(id, q.ClientID, verb, p); err != nil {
		return nil, err
	}
	ask := &wire.Change{ClientID: q.ClientID, Subject: p.Subject()}
	if id != nil {
		ask.Claims, err = json.Marshal(id.Claims)
	}
	return ask, err
}

// mayChange is the check of connecting for one channel more: the client must be the
// bearer's. Whoever it is, it may have less.
func (n *Node) mayChange(id *auth.Identity, clientID, verb string, p channel.Pattern) error {
	switch {
	case !n.guard.On():
		return nil
	case id == nil:
		return &auth.Unauthorized{Code: auth.Missing}
	}
	if err := n.guard.CheckClient(id, clientID); err != nil {
		return err
	}
	if verb == wire.VerbUnsubscribe || p.CoveredBy(n.guard.Auto(id, clientID)) {
		return nil
	}
	return n.guard.Check(id, clientID, []channel.Pattern{p})
}

func (n *Node) askedToSubscribe(body json.RawMessage, answer func(any)) error {
	return n.askedToChange(wire.VerbSubscribe, body, answer)
}

func (n *Node) askedToUnsubscribe(body json.RawMessage, answer func(any)) error {
	return n.askedToChange(wire.VerbUnsubscribe, body, answer)
}

// askedToChange does what a node asked for, itself included, on the loops that have the
// client.
func (n *Node) askedToChange(verb string, body json.RawMessage, answer func(any)) error {
	var q wire.Change
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	name, err := channel.FromSubject(q.Subject)
	if err != nil {
		return err
	}
	p, err := channel.Exact(name)
	if err != nil {
		return err
	}
	having := n.having(q.ClientID)
	if len(having) == 0 { // on most nodes
		answer(wire.Changed{})
		return nil
	}
	id, err := n.guard.Judge(q.Claims)
	if err == nil {
		err = n.mayChange(id, q.ClientID, verb, p)
	}
	if err != nil { // it has just ended, or was revoked
		answer(wire.Changed{})
		return nil //nolint:nilerr // who asked has judged it well-formed
	}
	var mu sync.Mutex // guards the following fields
	var sum wire.Changed
	left := len(having)
	o := order{clientID: q.ClientID, subject: q.Subject, done: func(one wire.Changed) {
		mu.Lock()
		defer mu.Unlock()
		sum.Add(one)
		if left--; left == 0 {
			answer(sum)
		}
	}}
	if n.guard.On() {
		bearer := n.guard.Bearer(id)
		o.bearer = &bearer
	}
	if verb == wire.VerbUnsubscribe {
		for _, l := range having {
			l.order(o)
		}
		return nil
	}
	o.most, o.auto, o.until = n.cfg.SSENode.MaxChannels, n.guard.Auto(id, q.ClientID), endOf(id)
	return n.hold(p, having, o)
}

// hold gives the loops the order to add a channel once its place in the stream is
// known, or would take too long to become so.
func (n *Node) hold(p channel.Pattern, having []*loop, o order) error {
	var wait []chan struct{}
	orders := make([]order, len(having))
	for i, l := range having {
		t, at, ready, err := n.hub.hold(p, l)
		if err != nil {
			for k, l := range having[:i] {
				n.hub.release(orders[k].topic, l)
			}
			return fmt.Errorf("%w: %w", errCannot, err)
		}
		orders[i] = o
		orders[i].topic, orders[i].n = t, at
		wait = append(wait, ready)
	}
	give := func() {
		for i, l := range having {
			l.order(orders[i])
		}
	}
	select {
	case <-wait[0]: // the topic is the same one
		give()
	default:
		go func() { // until the limit, or the node ends
			n.await(wait, time.Now().Add(readyLimit))
			give()
		}()
	}
	return nil
}

// having are the loops with streams of a client.
func (n *Node) having(clientID string) (list []*loop) {
	for _, l := range n.loops {
		if len(l.clients.of(clientID)) > 0 {
			list = append(list, l)
		}
	}
	return list
}

// order gives the loop an order, to be carried out after what is queued.
func (l *loop) order(o order) {
	l.ask(func() { l.orders = append(l.orders, &o) })
}
