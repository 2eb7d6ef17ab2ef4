// Package route reads the ROUTES setting: what is special about which channels.
// A bridge and its nodes run with the same text:
//
//	leaderboard:* throttle=1s; game:> history=off; bills initial=1; auction:* history=500/5m
//
// The first route whose pattern matches a channel is the channel's; a channel
// that none matches has the defaults.
package route

import (
	"fmt"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
)

// The history of a channel that no route limits otherwise.
const (
	DefaultCount = 1000
	DefaultAge   = 10 * time.Minute
)

// Bounds of options.
const (
	MaxCount    = 1_000_000
	MinAge      = time.Second
	MaxAge      = 30 * 24 * time.Hour
	MaxThrottle = time.Hour
)

// History says how much of a channel can be replayed.
type History struct {
	Off   bool          // live only: not stored, no ids
	Count int           // newest events kept, 1 to MaxCount
	Age   time.Duration // and not older than this, MinAge to MaxAge
}

// Priority says which channels of a client that is behind go first.
type Priority uint8

const (
	Normal Priority = iota
	High
	Low
)

func (p Priority) String() string { return [...]string{"normal", "high", "low"}[p] }

// Route is what is special about the channels that its pattern matches.
type Route struct {
	Pattern  channel.Pattern
	History  History
	Initial  int           // events sent to a client that connects without a position
	Throttle time.Duration // at most one event in this time, 0: all
	Priority Priority
	Format   event.Format
}

// String is the route as it is written in ROUTES; options that are as by
// default are left out, the others stand in a fixed order.
func (r *Route) String() string {
	s := r.Pattern.String()
	switch {
	case r.History.Off:
		s += " history=off"
	case r.History != defaultRoute.History:
		s += fmt.Sprintf(" history=%d/%s", r.History.Count, r.History.Age)
	}
	if r.Initial > 0 {
		s += fmt.Sprintf(" initial=%d", r.Initial)
	}
	if r.Throttle > 0 {
		s += " throttle=" + r.Throttle.String()
	}
	if r.Priority != Normal {
		s += " priority=" + r.Priority.String()
	}
	if r.Format != event.Auto {
		s += " format=" + r.Format.String()
	}
	return s
}

// defaultRoute is that of channels which no route matches. It is never changed.
var defaultRoute = Route{History: History{Count: DefaultCount, Age: DefaultAge}}
