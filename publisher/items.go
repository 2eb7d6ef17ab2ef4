package publisher

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// items are lists of things that come, change and go: what a generic hub carries for
// apps that name their own channels and events.
type items struct{ lists []itemList }

type itemList struct {
	slug  string
	ids   []string // there now
	count int
}

// itemsMost is how long a list gets before something has to go.
const itemsMost = 10

type itemEvent struct {
	ItemID string `json:"itemId"`
	stamp
	Quantity int `json:"quantity,omitempty"`
}

func newItems(size int) scenario {
	return &items{each(slugs(size), func(slug string) itemList { return itemList{slug: slug} })}
}

func (s *items) next(r *rand.Rand) act {
	l := pick(r, s.lists)
	kind, e := l.step(r)
	return act{channel: "items:" + l.slug, event: kind, data: e}
}

func (l *itemList) step(r *rand.Rand) (kind string, e *itemEvent) {
	what := r.IntN(4)
	switch {
	case len(l.ids) == 0 || what == 0 && len(l.ids) < itemsMost:
		l.count++
		id := fmt.Sprint("item-", l.count)
		l.ids = append(l.ids, id)
		return "item-added", &itemEvent{ItemID: id, Quantity: between(r, 1, 100)}
	case what == 1:
		i := r.IntN(len(l.ids))
		e = &itemEvent{ItemID: l.ids[i]}
		l.ids = slices.Delete(l.ids, i, i+1)
		return "item-removed", e
	default:
		return "item-changed", &itemEvent{ItemID: *pick(r, l.ids), Quantity: between(r, 1, 100)}
	}
}
