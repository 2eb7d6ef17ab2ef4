package auth

import "sluice/shared/origin"

// Site is what a browser says of the page that asks.
type Site = origin.Site

// mayUseCookie tells whether a cookie that came with a request counts. The
// browser sends it whatever the page: it counts if the page is of the same host,
// or of an origin that is named and may use it.
func (s *Settings) mayUseCookie(from Site) bool {
	return from.Same() || s.Credentials && s.Origins.Names(from.Origin)
}
