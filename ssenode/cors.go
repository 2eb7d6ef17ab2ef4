package ssenode

import (
	"github.com/valyala/fasthttp"

	"sluice/shared/origin"
)

// anyOrigin is what most nodes say to all pages.
const anyOrigin = "Access-Control-Allow-Origin: *\r\n"

// cors is what an answer tells a browser of whether the page that asked may see
// it.
type cors struct {
	origin      string // "" for a page that may not
	credentials bool   // it may use cookies
	vary        bool   // other pages get another answer
}

// cors decides by the request's Origin. What it repeats of that is in the
// settings, or made of letters and digits in a place where these have a star.
func (n *Node) cors(ctx *fasthttp.RequestCtx) cors {
	s := &n.cfg.SSENode.Settings
	if s.Origins.Any() {
		return cors{origin: "*"}
	}
	c := cors{vary: true}
	if from := origin.SiteOf(&ctx.Request.Header).Origin; s.Origins.Names(from) {
		c.origin, c.credentials = from, s.Credentials
	}
	return c
}

func (c cors) set(h *fasthttp.ResponseHeader) {
	if c.vary {
		h.Set("Vary", "Origin")
	}
	if c.origin != "" {
		h.Set("Access-Control-Allow-Origin", c.origin)
		h.Set("Access-Control-Expose-Headers", "Retry-After") // else no page sees it
	}
	if c.credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers what a browser asks before a request with such header fields.
func (c cors) preflight(h *fasthttp.ResponseHeader, methods string) {
	c.set(h)
	if c.origin != "" {
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", "86400")
	}
}

// lines are the same for a head that is written by hand.
func (c cors) lines() string {
	if c.origin == "*" {
		return anyOrigin
	}
	var text string
	if c.vary {
		text = "Vary: Origin\r\n"
	}
	if c.origin != "" {
		text += "Access-Control-Allow-Origin: " + c.origin + "\r\n"
	}
	if c.credentials {
		text += "Access-Control-Allow-Credentials: true\r\n"
	}
	return text
}
