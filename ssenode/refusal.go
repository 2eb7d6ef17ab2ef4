package ssenode

import (
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/wire"
	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

// refusalNote is a request for events that was refused, or sent away.
type refusalNote struct {
	at       time.Time
	clientID string // that it came with, "" for none: who is refused has no other name
	what     string
	detail   string
}

// noteRefusal remembers a request that did not become a stream or a poll.
func (n *Node) noteRefusal(ctx *fasthttp.RequestCtx, err error) {
	r := refusalNote{at: time.Now()}
	// As it was said, whether it is granted or not; nothing else of the query is kept.
	if id := string(ctx.QueryArgs().Peek("clientId")); nodeName.MatchString(id) {
		r.clientID = id
	}
	r.what, r.detail = refusedFor(err)
	n.stats.diary.refusals.add(r, func(r refusalNote) time.Time { return r.at })
}

// refusedFor names why a request was refused, in one word and what goes with it.
func refusedFor(err error) (what, detail string) {
	var nobody *auth.Unauthorized
	var forbidden *auth.Forbidden
	var over *limits.Over
	switch {
	case errors.As(err, &nobody):
		return "unauthorized", strings.TrimSpace(string(nobody.Code) + " " + clip(nobody.Claim))
	case errors.As(err, &forbidden) && forbidden.ClientID != "":
		return "forbidden", "clientId"
	case errors.As(err, &forbidden) && forbidden.Origin != "":
		return "forbidden", "origin " + clip(printable(forbidden.Origin))
	case errors.As(err, &forbidden):
		return "forbidden", "channel " + clip(printable(forbidden.Channel))
	case errors.As(err, &over):
		return "limit", over.Reason.String()
	case errors.Is(err, auth.ErrNoKeys) || errors.Is(err, errNotRead):
		return "not-ready", ""
	}
	return "bad-request", "" // its text may quote what was sent
}

// is tells whether it is of whom is asked for, as far as the clientId tells.
func (r *refusalNote) is(q *wire.Inspect) bool {
	switch {
	case q.ClientID != "":
		return r.clientID == q.ClientID
	case q.Subject != "":
		sub, ok := auth.SubjectOf(r.clientID)
		return ok && r.clientID != "" && sub == q.Subject
	}
	return q.Channel == ""
}

func (r *refusalNote) told(x *inspection) wire.InspectedRefusal {
	return wire.InspectedRefusal{Node: x.node, ClientID: r.clientID, At: r.at.UTC().Format(timestamps), What: r.what, Detail: r.detail}
}
