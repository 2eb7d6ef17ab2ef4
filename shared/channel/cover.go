package channel

import "strings"

// CoveredBy tells whether every channel that the pattern matches is matched by
// one of the list, not necessarily always the same: `game:>` is covered by
// `game:*` and `game:*:>` together. What a client may read is decided by it, so
// it is exact: there are more names than any list can spell out, so of each
// number of segments one of the list must match all.
func (p Pattern) CoveredBy(list []Pattern) bool {
	least, more := p.segments()
	var fixed []bool // by number of segments beyond the least: all matched
	upward := -1     // likewise, from here on; -1: never
	for _, q := range list {
		if q.Covers(p) {
			return true
		}
		if !more {
			continue
		}
		n, open := q.segments()
		if !q.Covers(p.ofSegments(n)) {
			continue
		}
		at := n - least
		if open {
			if upward < 0 || at < upward {
				upward = at
			}
			continue
		}
		for len(fixed) <= at {
			fixed = append(fixed, false)
		}
		fixed[at] = true
	}
	if upward < 0 {
		return false
	}
	for at := range upward {
		if at >= len(fixed) || !fixed[at] {
			return false
		}
	}
	return true
}

// segments is how many a channel needs to match, and whether it may have more.
func (p Pattern) segments() (n int, more bool) {
	return strings.Count(p.subject, ".") + 1, p.subject == ">" || strings.HasSuffix(p.subject, ".>")
}

// ofSegments is a pattern that ends in > restricted to channels of n segments.
// For fewer than it needs it is a pattern that nothing of that length covers.
func (p Pattern) ofSegments(n int) Pattern {
	least, _ := p.segments()
	if n < least {
		return p
	}
	head := strings.TrimSuffix(p.subject, ">")
	return Pattern{subject: head + "*" + strings.Repeat(".*", n-least), wild: true}
}
