package ssenode

import (
	"slices"

	"github.com/valyala/fasthttp"

	"sluice/shared/channel"
	"sluice/shared/origin"
	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

// tokenParam is the parameter of a query that may hold a token. Nothing repeats
// its value: not an answer, not a log.
const tokenParam = "token"

// admit reads a request for events and decides whether it is granted. It is the
// only way to a request that is opened, whatever its kind, so there is only this
// one check. Nothing was subscribed or read before. What counts the request is the
// caller's to take back, also after an error.
//
// path is what follows /events/, templates are those of an endpoint.
func (n *Node) admit(ctx *fasthttp.RequestCtx, path string, templates []channel.Template) (*request, error) {
	c := limits.Of(ctx.Conn())
	if err := c.Enter(&ctx.Request.Header, ctx.ConnRequestNum() == 1); err != nil {
		return nil, err
	}
	params, err := parseQuery(string(ctx.URI().QueryString()))
	if err != nil {
		return nil, err
	}
	r := &request{cors: n.cors(ctx).lines()}
	if r.identity, err = n.identify(ctx, params); err != nil {
		return nil, err
	}
	if r.identity != nil {
		if err := c.EnterAs(r.identity.Subject); err != nil {
			return nil, err
		}
	}
	if err := r.common(params); err != nil {
		return nil, err
	}
	if r.chosen {
		if err := n.guard.CheckClient(r.identity, r.clientID); err != nil {
			return nil, err
		}
	}
	if templates != nil {
		err = r.fill(templates, params, n.cfg.SSENode.MaxChannels)
	} else {
		err = r.named(path, params, n.cfg.SSENode.MaxChannels)
	}
	if err != nil {
		return nil, err
	}
	// The query's is what the page began with; the header is newer.
	if id := ctx.Request.Header.Peek("Last-Event-ID"); len(id) > 0 {
		r.lastEventID = string(id)
	}
	explicit := r.want
	if auto := n.guard.Auto(r.identity, r.clientID); len(auto) > 0 {
		explicit = slices.DeleteFunc(slices.Clone(r.want), func(p channel.Pattern) bool { return p.CoveredBy(auto) })
		if most := n.cfg.SSENode.MaxChannels; len(auto) > most {
			return nil, tooMany("%d channels come by themselves: at most %d", len(auto), most)
		}
		if err := r.also(auto); err != nil {
			return nil, err
		}
	}
	if len(r.want) == 0 {
		return nil, errNoChannel
	}
	r.attributes = n.guard.Attributes(r.identity, said(params))
	return r, n.guard.Check(r.identity, r.clientID, explicit)
}

// ownParams are those that say what a client wants, and not what it is.
var ownParams = []string{"channel", "channels", "clientId", "initial", "lastEventId", "pattern", "timeout", tokenParam, "wrap"}

// said is what a client says of itself.
func said(params []param) map[string][]string {
	var m map[string][]string
	for _, p := range params {
		if slices.Contains(ownParams, p.name) {
			continue
		}
		if m == nil {
			m = map[string][]string{}
		}
		m[p.name] = append(m[p.name], p.value)
	}
	return m
}

// identify finds out whom a request acts for. While it is not known what is revoked,
// no token counts.
func (n *Node) identify(ctx *fasthttp.RequestCtx, params []param) (*auth.Identity, error) {
	if !n.guard.On() {
		return nil, nil
	}
	h := &ctx.Request.Header
	var c auth.Carrier
	for _, field := range h.PeekAll("Authorization") {
		c.Authorization = append(c.Authorization, string(field))
	}
	for _, p := range params {
		if p.name == tokenParam {
			c.Query = append(c.Query, p.value)
		}
	}
	if name := n.cfg.SSENode.Cookie; name != "" {
		for key, value := range h.Cookies() {
			if string(key) == name {
				c.Cookies = append(c.Cookies, string(value))
			}
		}
	}
	id, err := n.guard.Identify(&c, origin.SiteOf(h))
	if id != nil && !n.knowsRevoked() {
		return nil, errNotRead // it is sent away, and comes back
	}
	return id, err
}
