package publisher

import "math/rand/v2"

// auctions sell one lot after the other. The channel of an auction stays, so
// that a page left open sees the next lot; bids begin anew with each.
type auctions struct{ list []auction }

type auction struct {
	id     string
	lot    int
	bids   int // so far on this lot
	last   int // bids until the hammer falls, 0: no lot yet
	price  euros
	bidder string
}

type auctionEvent struct {
	Type string `json:"type"`
	stamp
	AuctionID string `json:"auctionId"`
	Lot       int    `json:"lot"`
	Bids      int    `json:"bids"`
	Amount    euros  `json:"amount"`
	Bidder    string `json:"bidder,omitempty"`
	Winner    string `json:"winner,omitempty"`
}

func newAuctions(size int) scenario {
	return &auctions{each(names(size, ""), func(id string) auction { return auction{id: id} })}
}

func (s *auctions) next(r *rand.Rand) act {
	a := pick(r, s.list)
	return act{channel: "auction:" + a.id, data: a.step(r)}
}

func (a *auction) step(r *rand.Rand) *auctionEvent {
	if a.last == 0 {
		*a = auction{id: a.id, lot: a.lot + 1, last: between(r, 8, 20), price: euros(100 * between(r, 1, 50))}
	}
	e := &auctionEvent{Type: "bid-placed", AuctionID: a.id, Lot: a.lot}
	if a.bids == a.last {
		e.Type, e.Bids, e.Amount, e.Winner = "auction-end", a.bids, a.price, a.bidder
		a.last = 0
		return e
	}
	a.bids++
	a.price += euros(50 * between(r, 1, 20))
	a.bidder = *pick(r, people())
	e.Bids, e.Amount, e.Bidder = a.bids, a.price, a.bidder
	return e
}
