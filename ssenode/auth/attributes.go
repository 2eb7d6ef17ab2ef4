package auth

import (
	"encoding/binary"
	"slices"
	"strings"
	"unique"

	"sluice/shared/event"
)

// maxAttributes bounds, in bytes, what is kept of a client's attributes; what comes
// later in the order of names does not count.
const maxAttributes = 4096

// Attributes are what is known of a client under some names, for events that only some
// clients are to get. Clients with the same attributes share them, and the zero value
// is of a client without any. They are comparable.
type Attributes struct{ packed unique.Handle[string] }

// notAttributes are claims that say something of the token, and not of its bearer.
var notAttributes = []string{"aud", "exp", "iat", "iss", "jti", "nbf"}

// Attributes collects what SSENODE_ATTRIBUTES asks for: of a bearer by its claims. What
// a client says of itself in the query counts only where there is no authentication;
// query has the values of its parameters by name.
func (g *Guard) Attributes(id *Identity, query map[string][]string) Attributes {
	values := func(name string) []string {
		if !g.On() {
			return query[name]
		}
		list, _ := id.Claims.Values(name)
		return list
	}
	var names []string
	switch {
	case g.On() && id == nil:
		return Attributes{}
	case !slices.Contains(g.s.Attributes, "*"):
		names = slices.Clone(g.s.Attributes)
	case g.On():
		for name := range id.Claims {
			if name != g.s.ChannelsClaim && !slices.Contains(notAttributes, name) {
				names = append(names, name)
			}
		}
	default:
		for name := range query {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b []byte
	for _, name := range slices.Compact(names) {
		list := slices.DeleteFunc(slices.Clone(values(name)), func(v string) bool { return v == "" })
		if len(list) == 0 {
			continue
		}
		before := len(b)
		b = appendText(b, name)
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, v := range list {
			b = appendText(b, v)
		}
		if len(b) > maxAttributes {
			b = b[:before]
			break
		}
	}
	if len(b) == 0 {
		return Attributes{}
	}
	return Attributes{unique.Make(string(b))}
}

// Match tells whether all criteria hold. They are in the order of their names, as the
// attributes are.
func (a Attributes) Match(criteria event.Criteria) bool {
	if a == (Attributes{}) {
		return len(criteria) == 0
	}
	rest := a.packed.Value()
	for _, c := range criteria {
		found := false
		for !found {
			if rest == "" {
				return false
			}
			var name, value string
			var n uint64
			name, rest = nextText(rest)
			if name > c.Name {
				return false
			}
			n, rest = nextNumber(rest)
			for range n {
				value, rest = nextText(rest)
				found = found || name == c.Name && slices.Contains(c.Values, value)
			}
			if name == c.Name && !found {
				return false
			}
		}
	}
	return true
}

// Values are those under a name, nil for none.
func (a Attributes) Values(name string) (values []string) {
	if a == (Attributes{}) {
		return nil
	}
	for rest := a.packed.Value(); rest != ""; {
		var has, value string
		var n uint64
		has, rest = nextText(rest)
		n, rest = nextNumber(rest)
		for range n {
			if value, rest = nextText(rest); has == name {
				values = append(values, strings.Clone(value))
			}
		}
	}
	return values
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func nextText(s string) (text, rest string) {
	n, rest := nextNumber(s)
	return rest[:n], rest[n:]
}

// nextNumber is binary.Uvarint of a string that AppendUvarint has made.
func nextNumber(s string) (n uint64, rest string) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		n |= uint64(s[i]&0x7f) << shift
		if s[i] < 0x80 {
			return n, s[i+1:]
		}
	}
}

// List has all names, and if wanted their values.
func (a Attributes) List(values bool) map[string][]string {
	if a == (Attributes{}) {
		return nil
	}
	list := map[string][]string{}
	for rest := a.packed.Value(); rest != ""; {
		var name, value string
		var n uint64
		name, rest = nextText(rest)
		n, rest = nextNumber(rest)
		list[name] = []string{}
		for range n {
			if value, rest = nextText(rest); values {
				list[name] = append(list[name], value)
			}
		}
	}
	return list
}
