package auth

import "slices"

// Attributes are what is known of a client under some names, for messages that
// only some clients are to get. Names without a value are left out.
type Attributes []Attribute

// Attribute is one name with all its values, as texts.
type Attribute struct {
	Name   string
	Values []string
}

// Attributes collects those of the names that are known: of a bearer by its
// claims. What a client says of itself in the query counts only where there is
// no authentication; query returns all values of a parameter.
func (g *Guard) Attributes(id *Identity, names []string, query func(name string) []string) Attributes {
	var list Attributes
	for _, name := range names {
		var values []string
		switch {
		case !g.On():
			values = slices.DeleteFunc(slices.Clone(query(name)), func(v string) bool { return v == "" })
		case id != nil:
			values, _ = id.Claims.Values(name)
		}
		if len(values) > 0 {
			list = append(list, Attribute{name, values})
		}
	}
	return list
}
