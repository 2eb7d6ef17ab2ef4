// Package origin tells which pages may ask something of a worker, and what their
// browser shows them of the answer.
package origin

import (
	"fmt"
	"net/url"
	"strings"
)

// List is a setting: the pages that may connect, by where they come from.
// An entry is an origin (`https://a.com`), one with a wildcard for one or more
// labels (`https://*.b.com`, which is not b.com itself), or `*` for all.
type List struct {
	any   bool
	exact map[string]bool
	under []domain
}

// domain is what an origin with a wildcard begins and ends with.
type domain struct{ scheme, rest string }

// Decode parses the setting's value; it makes List a field that envconfig
// can fill.
func (o *List) Decode(value string) error {
	*o = List{exact: map[string]bool{}}
	for text := range strings.SplitSeq(value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if text == "*" {
			o.any = true
			continue
		}
		origin, err := parse(text)
		if err != nil {
			return err
		}
		if scheme, rest, wild := strings.Cut(origin, "*"); wild {
			o.under = append(o.under, domain{scheme, rest})
		} else {
			o.exact[origin] = true
		}
	}
	return nil
}

// parse brings an entry to the form in which browsers send origins.
func parse(text string) (string, error) {
	bad := func() (string, error) {
		return "", fmt.Errorf("origin %q: want one such as https://a.com, http://localhost:3000, https://*.b.com or *", text)
	}
	lower := strings.ToLower(text)
	u, err := url.Parse(strings.Replace(lower, "://*.", "://any.", 1))
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "#") || strings.HasSuffix(text, "?") {
		return bad()
	}
	scheme, host, _ := strings.Cut(lower, "://")
	name := strings.TrimPrefix(host, "*.")
	// A name after the star: https://*.com would be half of the world, but that
	// is the operator's to know; https://* alone is not.
	if strings.ContainsAny(name, "*, ") || name == "" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, ":") {
		return bad()
	}
	for i := range len(name) {
		if name[i] >= 0x7f || name[i] <= ' ' {
			return bad() // browsers send the xn-- form
		}
	}
	if standard := map[string]string{"http": ":80", "https": ":443"}[scheme]; standard != "" {
		host = strings.TrimSuffix(host, standard)
	}
	return scheme + "://" + host, nil
}

// Any tells whether all pages may connect.
func (o *List) Any() bool { return o.any }

// Allows tells whether a page of this origin may connect.
func (o *List) Allows(origin string) bool { return o.any || o.Names(origin) }

// Names is Allows without the `*`: the origin is one that the operator has
// thought of.
func (o *List) Names(origin string) bool {
	if o.exact[origin] {
		return true
	}
	for _, d := range o.under {
		label, ok := strings.CutPrefix(origin, d.scheme)
		if label, found := strings.CutSuffix(label, d.rest); ok && found && isLabels(label) {
			return true
		}
	}
	return false
}

// isLabels tells whether a text is labels of a host name with dots between:
// nothing in it can end the host.
func isLabels(s string) bool {
	first := true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && !first:
			first = true
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		first = false
	}
	return !first
}
