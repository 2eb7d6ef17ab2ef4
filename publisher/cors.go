package publisher

import (
	"github.com/valyala/fasthttp"

	"sluice/shared/origin"
)

// checkPage refuses what a page of another host posts, unless its origin is one
// that may. A browser sends a simple POST wherever a page says, also to a port on
// its own machine that asks for no key.
func (s *Server) checkPage(ctx *fasthttp.RequestCtx) *refusal {
	from := origin.SiteOf(&ctx.Request.Header)
	if from.Same() || from.Origin != "" && s.cfg.Publisher.Origins.Allows(from.Origin) {
		return nil
	}
	return &refusal{why: foreignOrigin, text: from.Origin}
}

// cors tells a browser whether the page that asked may see the answer. Pages of
// the same host need no telling.
func (s *Server) cors(ctx *fasthttp.RequestCtx) {
	h, list := &ctx.Response.Header, &s.cfg.Publisher.Origins
	from := "*"
	if !list.Any() {
		h.Set("Vary", "Origin")
		if from = origin.SiteOf(&ctx.Request.Header).Origin; !list.Names(from) {
			return
		}
	}
	h.Set("Access-Control-Allow-Origin", from)
	h.Set("Access-Control-Expose-Headers", "Retry-After") // else no page sees it
}

// preflight answers what a browser asks before a request with such header fields.
func preflight(h *fasthttp.ResponseHeader, methods string) {
	if len(h.Peek("Access-Control-Allow-Origin")) == 0 {
		return
	}
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", "86400")
}
