package ssenode

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"sluice/shared/channel"
	"sluice/ssenode/auth"
)

// parse reads a query as /events does, without a node.
func parse(path, query string, limit int) (*request, error) {
	params, err := parseQuery(query)
	if err != nil {
		return nil, err
	}
	r := &request{}
	if err := r.common(params); err != nil {
		return nil, err
	}
	return r, r.named(path, params, limit)
}

// A stream does not keep the query that it came with, and the token in it.
func TestQueryIsNotKept(t *testing.T) {
	query := "channel=a&clientId=me&token=" + strings.Repeat("x", 1000)
	r, err := parse("", query, 8)
	if err != nil {
		t.Fatal(err)
	}
	from, at := uintptr(unsafe.Pointer(unsafe.StringData(query))), uintptr(unsafe.Pointer(unsafe.StringData(r.clientID)))
	if r.clientID != "me" || from <= at && at < from+uintptr(len(query)) {
		t.Errorf("clientId %q is a part of the query", r.clientID)
	}
}

// Whatever the query, it is refused as the client's mistake, or names exactly the
// channels that net/url finds in it too, each as a literal one.
func FuzzRequest(f *testing.F) {
	f.Add("", "channel=a&channel=b&pattern=game:*:>")
	f.Add("a%2Fb", "channels=a,b%2Cc,,&clientId=me&wrap=1")
	f.Add("", "channel=&channels=%2C&initial=3&lastEventId=e-1&token=x")
	f.Add("%", "channel=%zz&timeout=99")
	f.Add("", "channel=a+b&pattern=%3E&channel=*")
	f.Fuzz(func(t *testing.T, path, query string) {
		r, err := parse(path, query, 8)
		if err != nil {
			var b *badRequest
			if !errors.As(err, &b) || b.status != 400 || b.text == "" {
				t.Fatalf("%q %q: %v", path, query, err)
			}
			return
		}
		if len(r.want) > 8 || len(r.want) != len(r.channels)+len(r.patterns) || !nodeName.MatchString(r.clientID) {
			t.Fatalf("%q %q: %+v", path, query, r)
		}
		for i, name := range r.channels {
			if p, err := channel.Exact(name); err != nil || r.want[i] != p || !p.Literal() {
				t.Fatalf("%q %q: channel %q is %q, %v", path, query, name, r.want[i], err)
			}
		}
		if strings.Contains(query, ";") {
			return // net/url refuses these
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		for _, name := range values["channel"] {
			if !slices.Contains(r.channels, name) {
				t.Fatalf("%q: channel %q is missing in %q", query, name, r.channels)
			}
		}
		for _, text := range values["pattern"] {
			p, err := channel.ParsePattern(text)
			if err != nil || !slices.Contains(r.want, p) {
				t.Fatalf("%q: pattern %q is missing in %q", query, text, r.want)
			}
		}
	})
}

// Whatever the setting, the query and the claim, an endpoint gives channels that
// lie within its templates read with a wildcard in each place: no value reaches
// beyond its own. (In a claim a colon is kept: there it may be several segments.)
func FuzzEndpoints(f *testing.F) {
	f.Add("/a=race:{query.q}", "q=1", "u")
	f.Add("/a=user:{claim.sub},g:{claim.list}:*", "q=*", "*")
	f.Add("/a=x:{query.q}:{claim.sub}:{clientId}; /b=y", "q=%3E&clientId=c", "a>")
	f.Add("/a=x{query.q}:>", "q=a%3Ab", "%2A")
	f.Fuzz(func(t *testing.T, setting, query, claim string) {
		var e Endpoints
		if e.Decode(setting) != nil {
			return
		}
		params, err := parseQuery(query)
		if err != nil {
			return
		}
		for path, templates := range e.byPath {
			if isOwn(path) {
				t.Fatalf("%q has the path %q", setting, path)
			}
			r := &request{identity: &auth.Identity{Claims: auth.Claims{"sub": claim, "list": []any{claim, "b"}}}}
			if r.common(params) != nil || r.fill(templates, params, 8) != nil {
				continue
			}
			if strings.Contains(claim, ":") {
				continue
			}
			var within []channel.Pattern
			for _, template := range templates {
				list, err := template.Fill(1, func(string) ([]string, error) { return []string{"\x00"}, nil })
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range list {
					// A segment with a value in it may be any.
					segments := strings.Split(p.Subject(), ".")
					for i, s := range segments {
						if strings.Contains(s, "%00") {
							segments[i] = "*"
						}
					}
					wide, err := channel.ParsePattern(strings.ReplaceAll(strings.Join(segments, ":"), ":%:", "::"))
					if err != nil {
						return // an empty segment, written as in a subject
					}
					within = append(within, wide)
				}
			}
			for _, p := range r.want {
				if !p.CoveredBy(within) {
					t.Fatalf("%q with %q and %q: %q is not within %q", setting, query, claim, p, within)
				}
			}
		}
	})
}
