package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/event"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// presenceAnswer is the body of an answer to GET /presence.
type presenceAnswer struct {
	Channel  string                `json:"channel"`
	Count    int                   `json:"count"`
	Complete bool                  `json:"complete"`
	Clients  *[]wire.PresentClient `json:"clients,omitempty"` // not there for who may not see it
}

// servePresence tells who listens to a channel, on all nodes.
func (n *Node) servePresence(ctx *fasthttp.RequestCtx) {
	params, list, err := n.maySee(ctx)
	if err != nil {
		n.failed(ctx, err)
		return
	}
	var names []string
	for _, p := range params {
		if p.name == "channel" {
			names = append(names, p.value)
		}
	}
	if len(names) != 1 {
		n.refuse(ctx, bad("%d channels: want /presence?channel=NAME", len(names)))
		return
	}
	subject, err := channel.Subject(names[0])
	if err != nil {
		n.refuse(ctx, bad("channel %q: %v", clip(names[0]), err))
		return
	}
	answers, err := n.asker.Ask(context.Background(), wire.VerbPresence, wire.Presence{Subject: subject, List: list})
	if err != nil {
		n.failed(ctx, err)
		return
	}
	a := presenceAnswer{Channel: printable(names[0])}
	clients := []wire.PresentClient{}
	for _, p := range control.Bodies[wire.Present](&answers) {
		a.Count += p.Count
		clients = append(clients, p.Clients[:min(len(p.Clients), wire.MostListed-len(clients))]...)
	}
	if a.Complete = answers.Complete; list {
		a.Clients = &clients
	}
	n.answer(ctx, http.StatusOK, a)
}

// maySee tells whether who asks may see which clients there are. Without authentication
// and without a key it may know how many. It has read the query for that.
func (n *Node) maySee(ctx *fasthttp.RequestCtx) (params []param, list bool, err error) {
	if params, err = parseQuery(string(ctx.URI().QueryString())); err != nil {
		return nil, false, err
	}
	var fields []string
	for _, field := range ctx.Request.Header.PeekAll("Authorization") {
		fields = append(fields, string(field))
	}
	if n.guard.HasKey(fields) {
		return params, true, nil
	}
	if !n.guard.On() {
		if len(fields) > 0 && n.guard.TakesKeys() {
			return nil, false, &auth.Unauthorized{Code: auth.BadSignature}
		}
		return params, false, nil
	}
	id, err := n.identify(ctx, params)
	switch {
	case err != nil:
		return nil, false, err
	case id == nil:
		return nil, false, &auth.Unauthorized{Code: auth.Missing}
	case !id.SeesPresence():
		return nil, false, errPresence
	}
	return params, true, nil
}

var errPresence = &badRequest{status: http.StatusForbidden, text: "Forbidden: want a key of SSENODE_API_KEYS, or a token with presence:true"}

// askedForPresence counts, and lists, the clients of a channel here.
func (n *Node) askedForPresence(body json.RawMessage, answer func(any)) error {
	var q wire.Presence
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	if _, err := channel.FromSubject(q.Subject); err != nil {
		return err
	}
	var criteria event.Criteria
	if q.Criteria != nil {
		var err error
		if criteria, err = event.ParseCriteria(q.Criteria); err != nil {
			return err
		}
	}
	topics := n.hub.matching(q.Subject)
	if len(topics) == 0 {
		answer(wire.Present{})
		return nil
	}
	var mu sync.Mutex // guards the following fields
	var sum wire.Present
	left, room := len(n.loops), n.answerRoom()
	for _, l := range n.loops {
		l.ask(func() {
			one := l.present(topics, criteria, q)
			mu.Lock()
			defer mu.Unlock()
			sum.Count += one.Count
			for _, c := range one.Clients {
				size := sizeOf(c)
				if len(sum.Clients) == wire.MostListed || size > room {
					break
				}
				room -= size
				c.Node = n.cfg.SSENode.Name
				sum.Clients = append(sum.Clients, c)
			}
			if left--; left == 0 {
				answer(sum)
			}
		})
	}
	return nil
}

// answerRoom is how many bytes of a list one answer may have, far from what NATS takes.
func (n *Node) answerRoom() int {
	room := wire.MaxControl
	if most := int(n.nc.MaxPayload()); most > 0 {
		room = min(room, most)
	}
	return room * 3 / 4
}

// sizeOf is the size of a value as JSON.
func sizeOf(v any) int {
	b, _ := json.Marshal(v)
	return len(b) + 1
}

// matching are the topics that have events of a channel.
func (h *hub) matching(subject string) (list []*topic) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if t := h.topics[subject]; t != nil && t.refs > 0 {
		list = append(list, t)
	}
	h.wild.match([]byte(subject), func(t *topic) {
		if t.refs > 0 {
			list = append(list, t)
		}
	})
	return list
}

// present counts and lists the loop's clients of these topics that the criteria hold
// for, each once.
func (l *loop) present(topics []*topic, criteria event.Criteria, q wire.Presence) (r wire.Present) {
	l.bury() // else some of them are gone
	hold := map[auth.Attributes]bool{}
	for _, t := range topics {
		lt := t.byLoop[l.index].local
		if lt == nil {
			continue
		}
		// Of a channel by its name nobody comes before: see adds. So mostly, and for who
		// only counts, the clients need not be looked at.
		counted := (t.literal || len(topics) == 1) && len(criteria) == 0
		if counted {
			r.Count += len(lt.clients)
		}
		for _, c := range lt.clients {
			full := len(r.Clients) == wire.MostListed || !q.List
			if full && counted {
				break
			}
			switch {
			case c.overlap && !c.session.firstFor(int(c.sub), q.Subject):
				continue
			case len(criteria) > 0 && !c.fitsCached(criteria, hold):
				continue
			case !full:
				r.Clients = append(r.Clients, c.session.present())
			}
			if !counted {
				r.Count++
			}
		}
	}
	return r
}

// firstFor tells whether none of the session's subscriptions before the i-th matches the
// channel.
func (s *session) firstFor(i int, subject string) bool {
	return s.firstOf(i, &frame{subject: subject})
}

// fitsCached tells whether the criteria hold; clients share attributes.
func (s *session) fitsCached(criteria event.Criteria, known map[auth.Attributes]bool) bool {
	if s.pass == nil {
		return false // there are criteria
	}
	ok, there := known[s.pass.attributes]
	if !there {
		ok = s.pass.matches(criteria)
		known[s.pass.attributes] = ok
	}
	return ok
}

func (s *session) present() wire.PresentClient {
	return wire.PresentClient{
		ClientID: s.clientID, Subject: s.subject(), ConnectedAt: s.born().UTC().Format(time.RFC3339), Status: s.status(),
	}
}

// subject is of whose token the session lives, nil for nobody's, and for one that is
// not among the attributes and too long for a clientId.
func (s *session) subject() *string {
	if s.pass == nil || !s.pass.bearer.HasSubject() {
		return nil
	}
	if sub := s.pass.attributes.Values("sub"); len(sub) == 1 {
		return &sub[0]
	}
	if sub, ok := auth.SubjectOf(s.clientID); ok {
		return &sub
	}
	return nil
}

// status is how the session is doing: connected when it has all that there is.
func (s *session) status() string {
	switch {
	case s.poll() != nil:
		return "polling"
	case s.behind:
		return "behind"
	}
	return "connected"
}

// clientsAnswer is the body of an answer to GET /clients/{clientId}.
type clientsAnswer struct {
	ClientID    string             `json:"clientId"`
	Count       int                `json:"count"`
	Complete    bool               `json:"complete"`
	Connections *[]wire.Connection `json:"connections,omitempty"` // not there for who may not see it
}

// serveClients tells which streams a client has, on all nodes.
func (n *Node) serveClients(ctx *fasthttp.RequestCtx, path string) {
	_, list, err := n.maySee(ctx)
	if err != nil {
		n.failed(ctx, err)
		return
	}
	clientID, err := unescape(path, false)
	if err != nil || !nodeName.MatchString(clientID) {
		n.refuse(ctx, bad("clientId %q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", clip(path)))
		return
	}
	answers, err := n.asker.Ask(context.Background(), wire.VerbClients, wire.Clients{ClientID: clientID, List: list})
	if err != nil {
		n.failed(ctx, err)
		return
	}
	a := clientsAnswer{ClientID: clientID}
	connections := []wire.Connection{}
	cut := false
	for _, c := range control.Bodies[wire.Connections](&answers) {
		a.Count += c.Count
		cut = cut || c.Cut
		connections = append(connections, c.List...)
	}
	a.Complete = answers.Complete && !cut
	switch {
	case a.Count == 0 && !a.Complete:
		n.failed(ctx, errIncomplete)
		return
	case a.Count == 0:
		n.refuse(ctx, &badRequest{status: http.StatusNotFound, text: "no connection has clientId " + clientID})
		return
	case list:
		a.Connections = &connections
	}
	n.answer(ctx, http.StatusOK, a)
}

// askedForClients lists a client's streams here.
func (n *Node) askedForClients(body json.RawMessage, answer func(any)) error {
	var q wire.Clients
	if err := wire.DecodeControl(body, &q); err != nil {
		return err
	}
	if !nodeName.MatchString(q.ClientID) {
		return errors.New("clientId")
	}
	having := n.having(q.ClientID)
	if len(having) == 0 {
		answer(wire.Connections{})
		return nil
	}
	var mu sync.Mutex // guards the following fields
	var sum wire.Connections
	left, room := len(having), n.answerRoom()
	for _, l := range having {
		l.ask(func() {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range l.clients.of(q.ClientID) {
				if s.closed {
					continue
				}
				if sum.Count++; !q.List {
					continue
				}
				c := s.connection(n.cfg.SSENode.Name)
				size := sizeOf(c)
				if sum.Cut = sum.Cut || size > room || len(sum.List) == wire.MostListed; !sum.Cut {
					room -= size
					sum.List = append(sum.List, c)
				}
			}
			if left--; left == 0 {
				answer(sum)
			}
		})
	}
	return nil
}

func (s *session) connection(node string) wire.Connection {
	c := wire.Connection{
		Node: node, PodName: node, RegisteredAt: s.born().UTC().Format(time.RFC3339), Status: s.status(),
		Channels: []string{}, Patterns: []string{},
	}
	for i := range s.subs {
		if t := s.subs[i].topic; t.literal {
			c.Channels = append(c.Channels, printable(t.name()))
		} else {
			c.Patterns = append(c.Patterns, t.name())
		}
	}
	return c
}
