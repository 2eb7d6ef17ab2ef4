package publisher

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Each race is a kilometre with a checkpoint every quarter of it.
const (
	raceLength     = 1000
	raceCheckpoint = 250
)

// races has one race at a time on each track, one race after the other.
type races struct{ tracks []track }

type track struct {
	slug    string
	race    int // counts the races on this track
	runners []runner
	ranking []string // those who have arrived, the first one first
}

type runner struct {
	name     string
	distance int
}

type raceEvent struct {
	Type string `json:"type"`
	stamp
	RaceID     string   `json:"raceId"`
	URLSlug    string   `json:"urlSlug"`
	Player     string   `json:"playerId,omitempty"`
	Distance   int      `json:"distance,omitempty"`
	Place      int      `json:"place,omitempty"`
	Checkpoint int      `json:"checkpoint,omitempty"`
	Players    []string `json:"players,omitempty"`
	Ranking    []string `json:"ranking,omitempty"`
}

func newRaces(size int) scenario {
	return &races{each(slugs(size), func(slug string) track { return track{slug: slug} })}
}

func (s *races) next(r *rand.Rand) act {
	t := pick(r, s.tracks)
	e := t.step(r)
	e.RaceID = fmt.Sprintf("%s-race-%d", t.slug, t.race)
	e.URLSlug = t.slug
	return act{channel: "race-events:" + t.slug, data: e}
}

// step is what happens next: the start, someone's progress, or, when all have
// arrived, the finish.
func (t *track) step(r *rand.Rand) *raceEvent {
	if t.runners == nil {
		t.race++
		t.ranking = nil
		t.runners = each(people(), func(name string) runner { return runner{name: name} })
		return &raceEvent{Type: "race-start", Players: people()}
	}
	var running []*runner
	for i := range t.runners {
		if t.runners[i].distance < raceLength {
			running = append(running, &t.runners[i])
		}
	}
	if len(running) == 0 {
		t.runners = nil
		return &raceEvent{Type: "race-finish", Ranking: t.ranking}
	}
	who := *pick(r, running)
	before := who.distance
	who.distance = min(raceLength, before+between(r, 40, 120))
	if who.distance == raceLength {
		t.ranking = append(t.ranking, who.name)
	}
	e := &raceEvent{Type: "player-update", Player: who.name, Distance: who.distance, Place: t.place(who)}
	if passed := who.distance / raceCheckpoint; passed > before/raceCheckpoint {
		e.Type, e.Checkpoint = "checkpoint", passed
	}
	return e
}

// place counts from 1. Of two at the same distance the one who arrived first is
// ahead, on the way the one who stands first in the list.
func (t *track) place(who *runner) int {
	if i := slices.Index(t.ranking, who.name); i >= 0 {
		return i + 1
	}
	order := slices.Clone(t.runners)
	slices.SortStableFunc(order, func(a, b runner) int { return cmp.Compare(b.distance, a.distance) })
	return 1 + slices.IndexFunc(order, func(x runner) bool { return x.name == who.name })
}
