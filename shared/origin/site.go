package origin

import "strings"

// Site is what a browser says of the page that asks.
type Site struct {
	Origin string // header Origin, "" if there is none
	Fetch  string // header Sec-Fetch-Site; no page can set it
	Host   string // header Host
}

// Header is what SiteOf reads of a request.
type Header interface {
	Peek(name string) []byte
	PeekAll(name string) [][]byte
	Host() []byte
}

// SiteOf reads what a request's header says. Several origins are one that nobody has
// allowed.
func SiteOf(h Header) Site {
	var list []string
	for _, o := range h.PeekAll("Origin") {
		list = append(list, string(o))
	}
	return Site{strings.Join(list, ", "), string(h.Peek("Sec-Fetch-Site")), string(h.Host())}
}

// Same tells whether a request comes from a page of the host that it goes to, or
// from no page at all.
func (s Site) Same() bool {
	switch {
	case s.Fetch == "same-origin":
		return true
	case s.Origin == "":
		// No page, or an image or a link of one: those send no Origin, but tell here.
		return s.Fetch == "" || s.Fetch == "none"
	case s.Fetch != "":
		return false
	}
	// Before Sec-Fetch-Site. The scheme cannot be compared: a balancer may have
	// taken TLS away.
	_, host, ok := strings.Cut(s.Origin, "://")
	return ok && host != "" && strings.EqualFold(host, s.Host)
}
