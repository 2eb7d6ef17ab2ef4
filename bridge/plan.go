package bridge

import "strings"

// markChannel is where bridges write their own marks; it is never mirrored.
const markChannel = "sluice:mark"

// plan is what to subscribe to in Redis, and which of several copies of a
// message to take: Redis sends one for each subscription that matches.
type plan struct {
	entries  []entry // in order of preference
	all      bool    // a pattern takes every channel that has a name
	keyspace bool    // keyspace notifications were asked for
}

func newPlan(p Patterns) plan {
	var pl plan
	for _, e := range p.list {
		pl.keyspace = pl.keyspace || strings.HasPrefix(e.text, "__key")
		if e.glob && strings.Trim(e.text, "*") == "" {
			pl.all = true
		}
	}
	if pl.all {
		// Nothing else is needed, except that in Redis `*` does not match the
		// channel whose name is empty.
		pl.entries = []entry{{"*", true}, {"", false}}
		return pl
	}
	pl.entries = p.list
	return pl
}

// globs and names are the arguments of PSUBSCRIBE and SUBSCRIBE.
func (pl *plan) globs() []string { return pl.texts(true) }
func (pl *plan) names() []string { return pl.texts(false) }

func (pl *plan) texts(glob bool) (list []string) {
	for _, e := range pl.entries {
		if e.glob == glob {
			list = append(list, e.text)
		}
	}
	return list
}

// takes tells whether to take the copy of a message that came by a pattern, or
// by the channel's own name when pattern is empty: the copy of the first entry
// that matches. What no entry matches by our reading is taken too: the server
// matched it, and it is better delivered.
func (pl *plan) takes(channel, pattern string) bool {
	if channel == markChannel {
		return false
	}
	if !pl.keyspace && (strings.HasPrefix(channel, "__keyspace@") || strings.HasPrefix(channel, "__keyevent@")) {
		return false
	}
	if pl.all && channel != "" {
		return pattern != ""
	}
	for _, e := range pl.entries {
		if e.glob {
			if glob(e.text, channel) {
				return pattern == e.text
			}
		} else if e.text == channel {
			return pattern == ""
		}
	}
	return true
}
