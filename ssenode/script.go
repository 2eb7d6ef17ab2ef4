package ssenode

import (
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/ssenode/web"
)

// serveFile answers with a file of the client for pages. Pages of other hosts may
// import it if they may connect. It is kept for a few minutes, and then asked for
// again by its tag, so that a new version is everywhere soon.
func (n *Node) serveFile(ctx *fasthttp.RequestCtx, f *web.File) {
	h := &ctx.Response.Header
	n.cors(ctx).set(h)
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	body, tag := f.Text, `"`+f.Hash+`"`
	if ctx.Request.Header.HasAcceptEncoding("gzip") {
		body, tag = f.Gzip, `"`+f.Hash+`-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if hasTag(string(ctx.Request.Header.Peek("If-None-Match")), tag) {
		h.Del("Content-Encoding")
		ctx.SetStatusCode(http.StatusNotModified)
		return
	}
	ctx.SetContentType(f.Type)
	ctx.SetBody(body)
}

// hasTag tells whether a client has the version with the tag.
func hasTag(ifNoneMatch, tag string) bool {
	for other := range strings.SplitSeq(ifNoneMatch, ",") {
		if other = strings.TrimSpace(other); other == "*" || strings.TrimPrefix(other, "W/") == tag {
			return true
		}
	}
	return false
}
