package publisher

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// boards are leaderboards on which someone scores all the time.
type boards struct{ list []board }

type board struct {
	slug    string
	entries []boardEntry // best first
	news    *boardEvent  // the change of ranks that the last score brought
}

type boardEntry struct {
	Player string `json:"playerId"`
	Score  int    `json:"score"`
}

// boardEvent always has the whole board: where a page gets one update a second,
// the latest is all it needs.
type boardEvent struct {
	Type string `json:"type"`
	stamp
	boardEntry
	Rank     int          `json:"rank"`
	WasRank  int          `json:"previousRank,omitempty"`
	Standing []boardEntry `json:"leaderboard"`
}

func newBoards(size int) scenario {
	return &boards{each(slugs(size), func(slug string) board {
		return board{slug: slug, entries: each(people(), func(name string) boardEntry { return boardEntry{Player: name} })}
	})}
}

func (s *boards) next(r *rand.Rand) act {
	b := pick(r, s.list)
	e := b.news
	b.news = nil
	if e == nil {
		e = b.score(r)
	}
	return act{channel: "leaderboard:" + b.slug, data: e}
}

// score lets one player gain points. A new rank is the board's next event.
func (b *board) score(r *rand.Rand) *boardEvent {
	i := r.IntN(len(b.entries))
	b.entries[i].Score += 10 * between(r, 1, 10)
	who := b.entries[i]
	slices.SortStableFunc(b.entries, func(x, y boardEntry) int { return cmp.Compare(y.Score, x.Score) })
	rank := 1 + slices.Index(b.entries, who)
	// The slice is encoded, here and as news, before the next score changes it.
	e := boardEvent{Type: "score-update", boardEntry: who, Rank: rank, Standing: b.entries}
	if rank != i+1 {
		change := e
		change.Type, change.WasRank = "rank-change", i+1
		b.news = &change
	}
	return &e
}
