package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/valyala/fasthttp"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// refreshRequest is the body of POST /refresh; what else is in it is not looked at.
type refreshRequest struct {
	ClientID string `json:"clientId"`
	Token    string `json:"token"`
}

// refreshAnswer is the answer.
type refreshAnswer struct {
	Success     bool  `json:"success"`
	Connections int   `json:"connections"`
	Closed      int   `json:"closed,omitempty"`
	Complete    *bool `json:"complete,omitempty"` // false, or not there
}

// serveRefresh lets the connections of a client act for a newer token, whichever
// nodes they are on.
func (n *Node) serveRefresh(ctx *fasthttp.RequestCtx) {
	var q refreshRequest
	if err := json.Unmarshal(ctx.PostBody(), &q); err != nil {
		n.refuse(ctx, bad(`the body is not {"clientId":"…","token":"…"}`))
		return
	}
	if !nodeName.MatchString(q.ClientID) {
		n.refuse(ctx, bad("clientId %q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", clip(q.ClientID)))
		return
	}
	ask, err := n.refreshOf(&q)
	if err != nil {
		n.failed(ctx, err)
		return
	}
	answers, err := n.asker.Ask(context.Background(), wire.VerbRefresh, ask)
	if err != nil {
		n.sendAway(ctx, true, err)
		return
	}
	var sum wire.Refreshed
	for _, one := range control.Bodies[wire.Refreshed](&answers) {
		add(&sum, &one)
	}
	n.stats.refreshed.Add(uint64(sum.Connections))
	switch {
	case sum.Connections > 0:
		answer := refreshAnswer{Success: true, Connections: sum.Connections, Closed: sum.Closed}
		if !answers.Complete {
			answer.Complete = new(bool)
		}
		n.answer(ctx, http.StatusOK, answer)
	case sum.Channel != nil:
		n.refuse(ctx, &auth.Forbidden{Channel: *sum.Channel})
	case !answers.Complete:
		n.sendAway(ctx, true, errIncomplete)
	default:
		n.refuse(ctx, &badRequest{status: http.StatusNotFound, text: "no connection of this token's subject has clientId " + q.ClientID})
	}
}

var errIncomplete = errors.New("not all nodes have answered: try again")

// refreshOf verifies the token and returns what the nodes are asked.
func (n *Node) refreshOf(q *refreshRequest) (*wire.Refresh, error) {
	ask := &wire.Refresh{ClientID: q.ClientID}
	if !n.guard.On() {
		return ask, nil
	}
	if !n.knowsRevoked() {
		return nil, errNotRead
	}
	// From the body alone, which no page can send for another's user.
	id, err := n.guard.Identify(&auth.Carrier{Query: []string{q.Token}}, auth.Site{})
	if err != nil {
		return nil, err
	}
	if id == nil {
		return nil, &auth.Unauthorized{Code: auth.Missing}
	}
	if err := n.guard.CheckClient(id, q.ClientID); err != nil {
		return nil, err
	}
	ask.Claims, err = json.Marshal(id.Claims)
	return ask, err
}

func add(sum, one *wire.Refreshed) {
	sum.Connections += one.Connections
	sum.Closed += one.Closed
	if sum.Channel == nil {
		sum.Channel = one.Channel
	}
}

// askedToRefresh does what a node asked for, itself included, on the loops that have
// the client.
func (n *Node) askedToRefresh(body json.RawMessage, answer func(any)) error {
	var q wire.Refresh
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	var having []*loop
	for _, l := range n.loops {
		if len(l.clients.of(q.ClientID)) > 0 {
			having = append(having, l)
		}
	}
	if len(having) == 0 { // on most nodes
		answer(wire.Refreshed{})
		return nil
	}
	id, err := n.guard.Judge(q.Claims)
	if err != nil { // it has just ended, or was revoked
		answer(wire.Refreshed{})
		return nil //nolint:nilerr // who asked has judged it well-formed
	}
	var granted []channel.Pattern
	if n.guard.On() {
		granted = append(n.guard.Granted(id, q.ClientID), n.guard.Auto(id, q.ClientID)...)
	}
	var mu sync.Mutex // guards the following fields
	var sum wire.Refreshed
	left := len(having)
	for _, l := range having {
		l.ask(func() {
			one := l.refresh(q.ClientID, n.newPass(id, n.guard.Attributes(id, nil)), granted)
			mu.Lock()
			defer mu.Unlock()
			add(&sum, &one)
			if left--; left == 0 {
				answer(sum)
			}
		})
	}
	return nil
}

var errNarrower = errors.New("a newer token does not allow all its channels")

// refresh gives the client's sessions of the same subject a newer pass. One that has
// channels which that does not allow is closed: the token that was shown last counts.
func (l *loop) refresh(clientID string, p *pass, granted []channel.Pattern) (r wire.Refreshed) {
	for _, s := range l.clients.of(clientID) {
		switch {
		case s.closed:
			continue
		case p == nil: // there is no authentication
			r.Connections++
			continue
		case s.pass == nil || !s.pass.bearer.SameSubject(p.bearer):
			continue
		}
		if t := s.denied(granted); t != nil {
			name := t.name()
			r.Channel = &name
			r.Closed++
			l.drop(s, tokenExpired, errNarrower)
			continue
		}
		l.passes.renew(s, *p)
		r.Connections++
		l.evictRevoked(s) // the newer one may have been since it was judged
	}
	return r
}

// denied is a topic of the session's that is not granted, or nil.
func (s *session) denied(granted []channel.Pattern) *topic {
	for i := range s.subs {
		if t := s.subs[i].topic; !t.pattern.CoveredBy(granted) {
			return t
		}
	}
	if s.lag == nil {
		return nil
	}
	for _, c := range s.changes { // that it will have
		if c.topic != nil && !c.topic.pattern.CoveredBy(granted) {
			return c.topic
		}
	}
	return nil
}
