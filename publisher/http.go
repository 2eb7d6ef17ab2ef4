package publisher

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/shared/apikey"
)

const (
	// headLimit bounds a request's line and header fields, in bytes: a channel of
	// 1,024 bytes, percent-encoded, has room.
	headLimit = 16 << 10
	// strangerLimit bounds the body of a request without a key that counts. It is
	// refused in any case; a small one does not cost its connection.
	strangerLimit = 4 << 10
)

//go:embed openapi.json
var description []byte

func (s *Server) newHTTP() *fasthttp.Server {
	p := &s.cfg.Publisher
	return &fasthttp.Server{
		Handler:                      s.serve,
		ErrorHandler:                 s.serveBroken,
		HeaderReceived:               s.bodyLimit,
		Concurrency:                  p.Connections,
		ReadBufferSize:               headLimit,
		MaxRequestBodySize:           p.MaxBody,
		ReadTimeout:                  p.ReadTimeout,
		WriteTimeout:                 p.ReadTimeout,
		IdleTimeout:                  time.Minute,
		DisablePreParseMultipartForm: true, // a payload may look like anything
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		CloseOnShutdown:              true,
		SecureErrorLogMessage:        true,
		Logger:                       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// bodyLimit keeps strangers from filling the memory with bodies.
func (s *Server) bodyLimit(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if _, r := s.key(h); r != nil {
		return fasthttp.RequestConfig{MaxRequestBodySize: min(strangerLimit, s.cfg.Publisher.MaxBody)}
	}
	return fasthttp.RequestConfig{}
}

// endpoint is one of those that do something.
type endpoint uint8

const (
	onePayload endpoint = iota // POST /publish/{channel}
	manyItems                  // POST /publish
	notify
	broadcast
	revocation
	endpoints
)

func (e endpoint) String() string {
	return [endpoints]string{"/publish/{channel}", "/publish", "/notify", "/broadcast", "/revoke"}[e]
}

func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.URI().PathOriginal())
	switch {
	case strings.HasPrefix(path, "/publish/"):
		s.take(ctx, onePayload)
	case path == "/publish":
		s.take(ctx, manyItems)
	case path == "/notify":
		s.take(ctx, notify)
	case path == "/broadcast":
		s.take(ctx, broadcast)
	case path == "/revoke":
		s.take(ctx, revocation)
	case path == "/openapi.json":
		if s.allow(ctx, http.MethodGet, http.MethodHead) {
			ctx.SetContentType("application/json")
			ctx.SetBody(description)
		}
	default:
		s.refuse(ctx, &refusal{why: notFound, text: fmt.Sprintf("nothing is at %.100q: want /publish/{channel}, /publish, /notify, /broadcast or /revoke", path)})
	}
}

// problem is the body of every refusal.
type problem struct {
	Success   bool   `json:"success"` // never
	Error     string `json:"error"`
	Uncertain bool   `json:"uncertain,omitempty"` // it may have been published
	Code      string `json:"code,omitempty"`      // of 401
	Origin    string `json:"origin,omitempty"`    // of 403
}

func (s *Server) refuse(ctx *fasthttp.RequestCtx, r *refusal) {
	s.stats.refused[r.why].Add(1)
	p := problem{Error: r.text, Uncertain: r.uncertain}
	switch r.why {
	case unauthorized:
		p = problem{Error: "Unauthorized", Code: r.text}
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
	case foreignOrigin:
		p = problem{Error: "Forbidden", Origin: r.text}
	}
	if r.after > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.after.Seconds()))))
	}
	s.answer(ctx, r.why.status(), p)
}

func (s *Server) answer(ctx *fasthttp.RequestCtx, status int, body any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // cannot fail for such values
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBody(b.Bytes())
}

// allow answers preflights and methods that do not fit; it returns true when the
// request is to be served.
func (s *Server) allow(ctx *fasthttp.RequestCtx, methods ...string) bool {
	method := string(ctx.Method())
	list := strings.Join(append(methods, http.MethodOptions), ", ")
	for _, m := range methods {
		if m == method {
			return true
		}
	}
	ctx.Response.Header.Set("Allow", list)
	if method == http.MethodOptions {
		preflight(&ctx.Response.Header, list)
		ctx.SetStatusCode(http.StatusNoContent)
		return false
	}
	s.refuse(ctx, &refusal{why: badMethod, text: fmt.Sprintf("method %.20q is not allowed here: want %s", method, list)})
	return false
}

// key finds out whose request it is: the place of its key, 0 without keys.
func (s *Server) key(h *fasthttp.RequestHeader) (int, *refusal) {
	keys := &s.cfg.Publisher.APIKeys
	if keys.Len() == 0 {
		return 0, nil
	}
	var list []string
	for _, field := range h.PeekAll("Authorization") {
		list = append(list, string(field))
	}
	key, missing, ok := apikey.Bearer(list)
	switch {
	case missing:
		return 0, &refusal{why: unauthorized, text: "missing"}
	case !ok:
		return 0, &refusal{why: unauthorized, text: "malformed"}
	}
	at := keys.Find(key)
	if at < 0 {
		return 0, &refusal{why: unauthorized, text: "unknown_key"}
	}
	return at, nil
}

// serveBroken answers requests that fasthttp could not read.
func (s *Server) serveBroken(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	r := bad("the request is not HTTP/1.1 as it should be")
	switch {
	case errors.As(err, &small):
		r = &refusal{why: headTooLarge, text: "the request's URL and header fields are larger than 16 KiB"}
	case errors.As(err, &timeout) && timeout.Timeout():
		r = &refusal{why: slowRequest, text: "the request did not come within " + s.cfg.Publisher.ReadTimeout.String()}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		s.cors(ctx)
		if _, r = s.key(&ctx.Request.Header); r == nil {
			r = &refusal{why: bodyTooLarge, text: fmt.Sprintf("the request's body is larger than %d bytes", s.cfg.Publisher.MaxBody)}
		}
	}
	s.refuse(ctx, r)
	ctx.SetConnectionClose()
	if c, ok := ctx.Conn().(*lingerConn); ok {
		c.unread.Store(true)
	}
}
