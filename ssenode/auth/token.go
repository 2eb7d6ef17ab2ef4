package auth

import (
	"strings"
)

// Carrier is everything in a request that could bring a token, each as often as
// it was sent.
type Carrier struct {
	Authorization []string // header fields
	Query         []string // values of token=
	Cookies       []string // values of the cookie
}

// Token is the first that is there: of the header `Authorization: Bearer`, the
// query and the cookie. The others are not looked at, also if it turns out to be
// worth nothing. Two different ones in one place are malformed: which of them a
// proxy has judged nobody knows. byCookie tells that the browser has sent it by
// itself, whatever page it was that asked.
func (c *Carrier) Token() (token string, byCookie bool, err error) {
	bearers := make([]string, 0, len(c.Authorization))
	for _, field := range c.Authorization {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(field), " ")
		if strings.EqualFold(scheme, "Bearer") {
			bearers = append(bearers, strings.TrimSpace(rest))
		}
	}
	for i, list := range [][]string{bearers, c.Query, c.Cookies} {
		for _, t := range list {
			switch {
			case t == "" || t == token:
			case token == "":
				token = t
			default:
				return "", false, &Unauthorized{Code: Malformed}
			}
		}
		if token != "" {
			return token, i == 2, nil
		}
	}
	return "", false, nil
}
