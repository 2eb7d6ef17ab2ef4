package ssenode

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/shared/control"
	"sluice/shared/worker"
	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

// newServer makes the HTTP part of a node. It lives for a request only: a
// stream's connection leaves it for the engine.
func (n *Node) newServer(log *slog.Logger) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                       n.serve,
		ErrorHandler:                  n.serveBroken,
		ReadBufferSize:                n.cfg.SSENode.MaxHead,
		MaxRequestBodySize:            n.cfg.SSENode.MaxBody,
		ReadTimeout:                   n.cfg.SSENode.HeadTimeout,
		WriteTimeout:                  n.cfg.SSENode.HeadTimeout,
		IdleTimeout:                   n.cfg.SSENode.HeadTimeout * 6,
		MaxIdleWorkerDuration:         workerIdle, // a storm's goroutines do not stay
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		DisableHeaderNamesNormalizing: false,
		KeepHijackedConns:             n.engine.KeepsConn(),
		Logger:                        quiet{log},
		ConnState: func(c net.Conn, state fasthttp.ConnState) {
			if state == fasthttp.StateIdle { // a request has been answered
				limits.Of(c).Wait()
			}
		},
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true, // else it logs heads that it cannot read, with their tokens
	}
}

// quiet takes fasthttp's log lines, which are about single connections, to the
// debug level. Its errors quote heads that it cannot read, and tokens with them:
// only what comes before the quotation is logged.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			text, _, _ := strings.Cut(err.Error(), `"`)
			args[i] = text
		}
	}
	q.log.Debug("http", "detail", strings.TrimSpace(sprintf(format, args...)))
}

func (n *Node) serve(ctx *fasthttp.RequestCtx) {
	c := limits.Of(ctx.Conn())
	c.Arrived()
	path := string(ctx.URI().PathOriginal())
	name, isChannel := strings.CutPrefix(path, "/events/")
	templates, isEndpoint := n.cfg.SSENode.Endpoints.lookup(path)
	file := n.files[path]
	isStream := path == "/events" || isChannel || isEndpoint
	if !isStream && !ctx.IsOptions() {
		if err := c.Call(&ctx.Request.Header); err != nil {
			n.sendAway(ctx, true, err)
			return
		}
	}
	switch {
	case isStream || path == "/poll":
		if !n.allow(ctx, "GET, HEAD, OPTIONS") {
			return
		}
		if !isChannel {
			name = ""
		}
		r, err := n.admit(ctx, name, templates)
		if err != nil {
			n.noteRefusal(ctx, err)
		}
		var over *limits.Over
		switch {
		case isStream && n.endForGood(ctx, err):
		case errors.Is(err, auth.ErrNoKeys) || errors.Is(err, errNotRead) || errors.As(err, &over):
			n.sendAway(ctx, !isStream, err)
		case err != nil:
			n.refuse(ctx, err)
		case !isStream && !ctx.IsHead():
			n.servePoll(ctx, r)
			return // it counts until its answer is written: see limits.Conn.Wait
		default:
			n.open(ctx, r)
			if ctx.Hijacked() { // it is a stream's now
				return
			}
		}
		c.Leave()
	case path == "/refresh":
		if n.allow(ctx, "POST, OPTIONS") {
			n.serveRefresh(ctx)
		}
	case path == "/subscribe" || path == "/unsubscribe":
		if n.allow(ctx, "POST, OPTIONS") {
			n.serveChange(ctx, path[1:])
		}
	case path == "/presence":
		if n.allow(ctx, "GET, HEAD, OPTIONS") {
			n.servePresence(ctx)
		}
	case strings.HasPrefix(path, "/clients/"):
		if n.allow(ctx, "GET, HEAD, OPTIONS") {
			n.serveClients(ctx, path[len("/clients/"):])
		}
	case file != nil:
		if n.allow(ctx, "GET, HEAD, OPTIONS") {
			n.serveFile(ctx, file)
		}
	case path == "/version":
		if n.allow(ctx, "GET, HEAD, OPTIONS") {
			n.answer(ctx, http.StatusOK, map[string]string{"version": worker.Version()})
		}
	default:
		n.stats.refused.Add(1)
		n.answer(ctx, http.StatusNotFound, problem{Error: "nothing is at " + clip(path) + "; streams are at /events?channel=NAME"})
	}
}

// problem is the body of every error outside a stream.
type problem struct {
	Error    string    `json:"error"`
	Code     auth.Code `json:"code,omitempty"`
	Claim    string    `json:"claim,omitempty"`
	Channel  *string   `json:"channel,omitempty"` // the empty one has a name, too
	ClientID string    `json:"clientId,omitempty"`
	Origin   string    `json:"origin,omitempty"`
}

// failed answers a request of the API that cannot be served: errors that may pass by
// 503.
func (n *Node) failed(ctx *fasthttp.RequestCtx, err error) {
	for _, passing := range []error{auth.ErrNoKeys, errNotRead, control.ErrAway, control.ErrBusy, errIncomplete, errBehind, errUnknownPlace} {
		if errors.Is(err, passing) {
			n.sendAway(ctx, true, err)
			return
		}
	}
	n.refuse(ctx, err)
}

func (n *Node) answer(ctx *fasthttp.RequestCtx, status int, body any) {
	n.cors(ctx).set(&ctx.Response.Header)
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBody(append(toJSON(body), '\n'))
}

func (n *Node) refuse(ctx *fasthttp.RequestCtx, err error) {
	n.stats.refused.Add(1)
	var b *badRequest
	var nobody *auth.Unauthorized
	var forbidden *auth.Forbidden
	switch {
	case errors.As(err, &nobody):
		n.stats.unauthorized(nobody.Code)
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		n.answer(ctx, http.StatusUnauthorized, problem{Error: "Unauthorized", Code: nobody.Code, Claim: nobody.Claim})
	case errors.As(err, &forbidden):
		n.stats.forbidden.Add(1)
		p := problem{Error: "Forbidden", ClientID: forbidden.ClientID, Origin: clip(forbidden.Origin)}
		if forbidden.ClientID == "" && forbidden.Origin == "" {
			name := printable(forbidden.Channel)
			p.Channel = &name
		}
		n.answer(ctx, http.StatusForbidden, p)
	case errors.As(err, &b):
		if b.tooMany {
			n.gate.Count(limits.Channels)
		}
		n.answer(ctx, b.status, problem{Error: b.text})
	default:
		n.answer(ctx, http.StatusInternalServerError, problem{Error: err.Error()})
	}
}

// endForGood answers an EventSource whose token is revoked: by 204 it ends, as it was
// meant to, without an error in the page's console. It returns false for who is none,
// and can read why.
func (n *Node) endForGood(ctx *fasthttp.RequestCtx, err error) bool {
	var nobody *auth.Unauthorized
	if !errors.As(err, &nobody) || nobody.Code != auth.Revoked ||
		!strings.Contains(string(ctx.Request.Header.Peek("Accept")), "text/event-stream") {
		return false
	}
	n.stats.refused.Add(1)
	n.stats.unauthorized(nobody.Code)
	n.cors(ctx).set(&ctx.Response.Header)
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetStatusCode(http.StatusNoContent)
	return true
}

// allow answers preflights and methods that do not fit; it returns true when
// the request is to be served. A HEAD is served like a GET by fasthttp, which
// leaves out the body, and is not a stream.
func (n *Node) allow(ctx *fasthttp.RequestCtx, methods string) bool {
	method := string(ctx.Method())
	switch {
	case method == http.MethodOptions:
		ctx.Response.Header.Set("Allow", methods)
		n.cors(ctx).preflight(&ctx.Response.Header, methods)
		ctx.SetStatusCode(http.StatusNoContent)
		return false
	case slices.Contains(strings.Split(methods, ", "), method):
		return true
	}
	ctx.Response.Header.Set("Allow", methods)
	n.stats.refused.Add(1)
	n.answer(ctx, http.StatusMethodNotAllowed, problem{Error: "method " + clip(method) + " is not allowed here: want " + methods})
	return false
}

// serveBroken answers requests that fasthttp could not read.
func (n *Node) serveBroken(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, net.ErrClosed) {
		return // it had to make room; nobody reads an answer
	}
	if n.noHandshake(ctx, err) {
		return
	}
	s := &n.cfg.SSENode
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		// An EventSource comes back when there is no answer, and never does after 408.
		n.gate.Count(limits.Time)
		ctx.Conn().Close()
		return
	}
	n.stats.refused.Add(1)
	switch {
	case errors.As(err, &small):
		n.gate.Count(limits.Head)
		n.answer(ctx, http.StatusRequestHeaderFieldsTooLarge, problem{Error: sprintf("the request's URL and header fields are larger than %d bytes", s.MaxHead)})
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		n.gate.Count(limits.Body)
		n.answer(ctx, http.StatusRequestEntityTooLarge, problem{Error: sprintf("the request's body is larger than %d bytes", s.MaxBody)})
	default:
		n.answer(ctx, http.StatusBadRequest, problem{Error: "the request is not HTTP/1.1 as it should be"})
	}
	ctx.SetConnectionClose()
}
