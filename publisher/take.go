package publisher

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// take serves a request to publish, or to revoke.
func (s *Server) take(ctx *fasthttp.RequestCtx, e endpoint) {
	s.cors(ctx)
	if !s.allow(ctx, http.MethodPost) {
		return
	}
	s.stats.requests[e].Add(1)
	began := time.Now()
	defer func() { s.stats.requestTime.Observe(time.Since(began).Seconds()) }()
	if r := s.publish(ctx, e); r != nil {
		s.refuse(ctx, r)
	}
}

func (s *Server) publish(ctx *fasthttp.RequestCtx, e endpoint) *refusal {
	if r := s.checkPage(ctx); r != nil {
		return r
	}
	key, r := s.key(&ctx.Request.Header)
	if r != nil {
		return r
	}
	if e == revocation {
		return s.revokeToken(ctx, key)
	}
	counted, r := wantsCount(ctx.QueryArgs())
	if r != nil {
		return r
	}
	body := ctx.PostBody()
	if e == manyItems {
		return s.publishList(ctx, key, body, counted)
	}
	p, r := s.read(ctx, e, body)
	if r == nil {
		r = s.checkMessage(p.message)
	}
	if r == nil {
		r = s.rates.take(key, 1)
	}
	if r == nil {
		r = s.send([]message{p.message})[0]
	}
	if r == nil {
		s.answer(ctx, http.StatusOK, s.success([]post{p}, counted)[0])
	}
	return r
}

// read reads the one message of a request.
func (s *Server) read(ctx *fasthttp.RequestCtx, e endpoint, body []byte) (post, *refusal) {
	switch e {
	case notify:
		return s.places.readNotice(body)
	case broadcast:
		return s.places.readBroadcast(body)
	}
	encoded := strings.TrimPrefix(string(ctx.URI().PathOriginal()), "/publish/")
	name, err := url.PathUnescape(encoded)
	if err != nil {
		return post{}, bad("channel in the path: %v", err)
	}
	return post{message: message{name, body}}, nil
}

// publishList publishes what is right of a list, and says of each item what became
// of it.
func (s *Server) publishList(ctx *fasthttp.RequestCtx, key int, body []byte, counted bool) *refusal {
	items, r := readList(body, s.cfg.Publisher.MaxItems)
	if r != nil {
		return r
	}
	fates := make([]*refusal, len(items))
	var good []int // of items
	var posts []post
	var list []message
	for i, raw := range items {
		p, r := readItem(raw)
		if r == nil {
			r = s.checkMessage(p.message)
		}
		if fates[i] = r; r == nil {
			good, posts, list = append(good, i), append(posts, p), append(list, p.message)
		}
	}
	if r := s.rates.take(key, len(list)); r != nil {
		return r
	}
	sent := s.send(list)
	if r := nothing(sent); r != nil {
		return r
	}
	var published []post
	for k, r := range sent {
		if fates[good[k]] = r; r == nil {
			published = append(published, posts[k])
		}
	}
	answers, next := make([]any, len(items)), s.success(published, counted)
	for i, r := range fates {
		if r == nil {
			answers[i], next = next[0], next[1:]
			continue
		}
		s.stats.refused[r.why].Add(1)
		answers[i] = problem{Error: r.text, Uncertain: r.uncertain}
	}
	s.answer(ctx, http.StatusOK, answers)
	return nil
}

// nothing returns why nothing of a list was published by Redis, which is more than an
// item's own fault: one of which nobody knows goes before one that surely was not. It
// returns nil if anything was, or nothing was sent.
func nothing(fates []*refusal) *refusal {
	var why *refusal
	for _, r := range fates {
		switch {
		case r == nil:
			return nil
		case why == nil || r.uncertain:
			why = r
		}
	}
	return why
}

// done is the answer for a message that was published.
type done struct {
	Success    bool `json:"success"`
	Recipients *int `json:"recipients"` // null: not known, or not asked for
}

func (s *Server) success(posts []post, counted bool) []done {
	list := make([]done, len(posts))
	var targets []target
	for i, p := range posts {
		list[i].Success = true
		if counted {
			targets = append(targets, target{p.channel, p.criteria})
		}
	}
	for i, n := range s.count(targets) {
		list[i].Recipients = n
	}
	return list
}

// wantsCount reads ?recipients=.
func wantsCount(query *fasthttp.Args) (bool, *refusal) {
	switch v := string(query.Peek("recipients")); v {
	case "0":
		return false, nil
	case "", "1":
		return true, nil
	default:
		return false, bad("recipients=%.20q: want 0 (do not count them) or 1", v)
	}
}
