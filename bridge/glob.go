package bridge

// maxNesting is how many stars Redis follows before it gives up.
const maxNesting = 1000

// glob tells whether a Redis pattern matches a channel, byte for byte as the
// server does it (the semantics of stringmatchlen in Redis 7): `?` is one byte,
// `*` any number, `[a-z]` and `[^a-z]` sets, a backslash takes the meaning from
// the next byte. Some of it is odd and kept on purpose: no pattern but the
// empty one matches the empty channel, a set without its bracket ends with the
// pattern, and bytes from 0x80 stand below the others in a range.
func glob(pattern, s string) bool {
	stop := false
	return globFrom(pattern, s, &stop, 0)
}

// globFrom does the work. stop is set when no later start of an earlier star
// can match either.
func globFrom(p, s string, stop *bool, nesting int) bool {
	if nesting > maxNesting {
		return false
	}
	for p != "" && s != "" {
		switch p[0] {
		case '*':
			for len(p) > 1 && p[1] == '*' {
				p = p[1:]
			}
			if len(p) == 1 {
				return true
			}
			for s != "" {
				if globFrom(p[1:], s, stop, nesting+1) {
					return true
				}
				if *stop {
					return false
				}
				s = s[1:]
			}
			*stop = true
			return false
		case '?':
			p, s = p[1:], s[1:]
		case '[':
			rest, in := inSet(p[1:], s[0])
			if !in {
				return false
			}
			p, s = rest, s[1:]
		default:
			if p[0] == '\\' && len(p) >= 2 {
				p = p[1:]
			}
			if p[0] != s[0] {
				return false
			}
			p, s = p[1:], s[1:]
		}
		if s == "" {
			for p != "" && p[0] == '*' {
				p = p[1:]
			}
			break
		}
	}
	return p == "" && s == ""
}

// inSet tells whether c is in the set that p begins with, after its opening
// bracket, and returns what follows the set.
func inSet(p string, c byte) (rest string, in bool) {
	not := p != "" && p[0] == '^'
	if not {
		p = p[1:]
	}
	for {
		switch {
		case len(p) >= 2 && p[0] == '\\':
			p = p[1:]
			in = in || p[0] == c
		case p == "":
			return "", in != not
		case p[0] == ']':
			return p[1:], in != not
		case len(p) >= 3 && p[1] == '-':
			lo, hi := int8(p[0]), int8(p[2])
			if lo > hi {
				lo, hi = hi, lo
			}
			in = in || lo <= int8(c) && int8(c) <= hi
			p = p[2:]
		default:
			in = in || p[0] == c
		}
		p = p[1:]
	}
}
