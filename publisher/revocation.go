package publisher

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

// The fields of POST /revoke.
const (
	subjectField = "sub"
	tokenField   = "jti"
	lastsField   = "for"
)

// revoked is the answer to POST /revoke.
type revoked struct {
	Success bool      `json:"success"`
	Until   time.Time `json:"until"`
}

// revokeToken does what the command revoke does.
func (s *Server) revokeToken(ctx *fasthttp.RequestCtx, key int) *refusal {
	f, r := readFields(ctx.PostBody(), subjectField, tokenField, lastsField)
	if r != nil {
		return r
	}
	var text [3]string
	for i, field := range []string{subjectField, tokenField, lastsField} {
		if !f.has(field) {
			continue
		}
		if text[i], r = f.text(field); r != nil {
			return r
		}
	}
	lasts, err := time.ParseDuration(text[2])
	if err != nil {
		return bad("%q: want how long it is revoked, such as \"90m\" or \"24h\"", lastsField)
	}
	what, err := newRevocation(text[0], text[1], lasts)
	if err != nil {
		return bad("%v", err)
	}
	if r := s.rates.take(key, 1); r != nil {
		return r
	}
	if err := s.nodes.revoke(context.Background(), what); err != nil {
		r := &refusal{why: natsAway, text: err.Error(), after: time.Second}
		// What was sent may have been taken.
		r.uncertain = !errors.Is(err, errNATSAway) && !errors.Is(err, errNoNATS)
		return r
	}
	s.log.Info("revoked", "until", what.Until)
	s.answer(ctx, http.StatusOK, revoked{true, what.Until.Truncate(time.Second)})
	return nil
}
