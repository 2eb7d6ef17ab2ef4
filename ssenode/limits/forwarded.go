package limits

import (
	"slices"
	"strings"
)

// forwardedFor returns what stands at for= in the elements of a line of Forwarded
// (RFC 7239), from the right, "" where it is missing. A line that is not as the RFC
// has it is one element without: an open quotation mark that a client sends would
// otherwise swallow what a proxy has added to it.
func forwardedFor(line string) []string {
	var list []string
	for rest := line; ; {
		node, after, ok := element(rest)
		if !ok {
			return []string{""}
		}
		list = append(list, node)
		if after == "" {
			break
		}
		rest = after[1:] // behind the comma
	}
	slices.Reverse(list)
	return list[:min(len(list), mostHops)]
}

// element reads the pairs of an element up to a comma or the end.
func element(s string) (node, rest string, ok bool) {
	for {
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ';' && s[0] != ',' {
			var name, value string
			if name, value, s, ok = pair(s); !ok {
				return "", "", false
			}
			if strings.EqualFold(name, "for") {
				if node != "" || value == "" {
					return "", "", false // which of the two?
				}
				node = value
			}
			s = strings.TrimLeft(s, " \t")
		}
		switch {
		case s == "" || s[0] == ',':
			return node, s, true
		case s[0] != ';':
			return "", "", false
		}
		s = s[1:]
	}
}

// pair reads name=value; a value is a token or in quotation marks.
func pair(s string) (name, value, rest string, ok bool) {
	if name, s = token(s); name == "" || s == "" || s[0] != '=' {
		return "", "", "", false
	}
	if s = s[1:]; !strings.HasPrefix(s, `"`) {
		value, s = token(s)
		return name, value, s, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return name, b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c < ' ' && c != '\t' || c == 0x7f || c == '\\':
			return "", "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", "", false // no mark at the end
}

func token(s string) (token, rest string) {
	i := 0
	for i < len(s) && isToken(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// isToken tells whether a byte may stand in a token of RFC 9110.
func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
