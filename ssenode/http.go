package ssenode

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/shared/worker"
)

const (
	// headLimit bounds a request's line and header fields, in bytes.
	headLimit = 16 << 10
	// bodyLimit bounds a request's body, in bytes.
	bodyLimit = 64 << 10
)

// newServer makes the HTTP part of a node. It lives for a request only: a
// stream's connection leaves it for the engine.
func (n *Node) newServer(log *slog.Logger) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                       n.serve,
		ErrorHandler:                  n.serveBroken,
		ReadBufferSize:                headLimit,
		MaxRequestBodySize:            bodyLimit,
		ReadTimeout:                   n.cfg.SSENode.HeadTimeout,
		WriteTimeout:                  n.cfg.SSENode.HeadTimeout,
		IdleTimeout:                   n.cfg.SSENode.HeadTimeout * 6,
		MaxIdleWorkerDuration:         workerIdle, // a storm's goroutines do not stay
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		DisableHeaderNamesNormalizing: false,
		KeepHijackedConns:             n.engine.KeepsConn(),
		Logger:                        quiet{log},
		CloseOnShutdown:               true,
	}
}

// quiet takes fasthttp's log lines, which are about single connections, to the
// debug level.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	q.log.Debug("http", "detail", strings.TrimSpace(sprintf(format, args...)))
}

func (n *Node) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.URI().PathOriginal())
	name, isChannel := strings.CutPrefix(path, "/events/")
	templates, isEndpoint := n.cfg.SSENode.Endpoints.lookup(path)
	switch {
	case path == "/events" || isChannel || isEndpoint || path == "/poll":
		if !n.allow(ctx, "GET, HEAD, OPTIONS") {
			return
		}
		var r *request
		var err error
		query := string(ctx.URI().QueryString())
		if isEndpoint {
			r, err = fill(templates, query, n.cfg.SSENode.MaxChannels)
		} else {
			if !isChannel {
				name = ""
			}
			r, err = parseRequest(name, query, n.cfg.SSENode.MaxChannels)
		}
		if err != nil {
			n.refuse(ctx, err)
			return
		}
		// The query's is what the page began with; the header is newer.
		if id := ctx.Request.Header.Peek("Last-Event-ID"); len(id) > 0 {
			r.lastEventID = string(id)
		}
		if path == "/poll" && !ctx.IsHead() {
			n.servePoll(ctx, r)
		} else {
			n.open(ctx, r)
		}
	case path == "/version":
		if n.allow(ctx, "GET, HEAD, OPTIONS") {
			n.answer(ctx, http.StatusOK, map[string]string{"version": worker.Version()})
		}
	default:
		n.stats.refused.Add(1)
		n.answer(ctx, http.StatusNotFound, problem{"nothing is at " + clip(path) + "; streams are at /events?channel=NAME"})
	}
}

// problem is the body of every error outside a stream.
type problem struct {
	Error string `json:"error"`
}

func (n *Node) answer(ctx *fasthttp.RequestCtx, status int, body any) {
	cors(&ctx.Response.Header)
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBody(append(toJSON(body), '\n'))
}

func (n *Node) refuse(ctx *fasthttp.RequestCtx, err error) {
	n.stats.refused.Add(1)
	var b *badRequest
	if !errors.As(err, &b) {
		b = &badRequest{http.StatusInternalServerError, err.Error()}
	}
	n.answer(ctx, b.status, problem{b.text})
}

// allow answers preflights and methods that do not fit; it returns true when
// the request is to be served. A HEAD is served like a GET by fasthttp, which
// leaves out the body, and is not a stream.
func (n *Node) allow(ctx *fasthttp.RequestCtx, methods string) bool {
	switch string(ctx.Method()) {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodOptions:
		h := &ctx.Response.Header
		cors(h)
		h.Set("Allow", methods)
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "86400")
		ctx.SetStatusCode(http.StatusNoContent)
		return false
	}
	ctx.Response.Header.Set("Allow", methods)
	n.stats.refused.Add(1)
	n.answer(ctx, http.StatusMethodNotAllowed, problem{"method " + clip(string(ctx.Method())) + " is not allowed here: want " + methods})
	return false
}

func cors(h *fasthttp.ResponseHeader) { h.Set("Access-Control-Allow-Origin", "*") }

// serveBroken answers requests that fasthttp could not read.
func (n *Node) serveBroken(ctx *fasthttp.RequestCtx, err error) {
	n.stats.refused.Add(1)
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		n.answer(ctx, http.StatusRequestHeaderFieldsTooLarge, problem{"the request's URL and header fields are larger than 16 KiB"})
	case errors.As(err, &timeout) && timeout.Timeout():
		n.answer(ctx, http.StatusRequestTimeout, problem{"the request did not come in time"})
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		n.answer(ctx, http.StatusRequestEntityTooLarge, problem{"the request's body is larger than 64 KiB"})
	default:
		n.answer(ctx, http.StatusBadRequest, problem{"the request is not HTTP/1.1 as it should be"})
	}
	ctx.SetConnectionClose()
}
