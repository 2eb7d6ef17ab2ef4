package bridge

import (
	"fmt"
	"hash/fnv"
	"strings"

	"sluice/shared/channel"
	"sluice/shared/wire"
)

// plan is what to subscribe to in Redis, and which of several copies of a
// message to take: Redis sends one for each subscription that matches.
type plan struct {
	entries  []entry // in order of preference
	all      bool    // a pattern takes every channel that has a name
	internal bool    // Redis' own channels were asked for
}

func newPlan(p Patterns) plan {
	var pl plan
	for _, e := range p.list {
		pl.internal = pl.internal || strings.HasPrefix(e.text, "__")
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

// counting is the version of the rules by which messages are counted: of takes, glob
// and channel.OfRedis. Bridges with other ones must not take over by count.
const counting = 2

// hash tells plans apart: bridges count alike only if theirs is the same.
func (pl *plan) hash() string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d ", counting)
	for _, e := range pl.entries {
		fmt.Fprintf(h, "%t %q,", e.glob, e.text)
	}
	return fmt.Sprintf("%x-%t", h.Sum64(), pl.internal)
}

// marked tells whether the mark channel comes by one of the patterns. If it does
// not, it has to be subscribed by name.
func (pl *plan) marked() bool {
	for _, e := range pl.entries {
		if e.glob && glob(e.text, wire.MarkChannel) || e.text == wire.MarkChannel {
			return true
		}
	}
	return false
}

// globs and names are the arguments of PSUBSCRIBE and SUBSCRIBE.
func (pl *plan) globs() []string { return pl.texts(true) }

func (pl *plan) names() []string {
	names := pl.texts(false)
	if !pl.marked() {
		names = append(names, wire.MarkChannel)
	}
	return names
}

// exact are the names asked for, which may also be published in a Cluster's shards.
func (pl *plan) exact() []string {
	if pl.all {
		return nil
	}
	return pl.texts(false)
}

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
func (pl *plan) takes(name, pattern string) bool {
	if !pl.internal && channel.OfRedis(name) {
		return false
	}
	if pl.all && name != "" {
		return pattern != ""
	}
	for _, e := range pl.entries {
		if e.glob {
			if glob(e.text, name) {
				return pattern == e.text
			}
		} else if e.text == name {
			return pattern == ""
		}
	}
	return true
}
