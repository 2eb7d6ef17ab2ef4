package publisher

import "math/rand/v2"

// stocks walk at random, each tick by at most a hundredth of the price.
type stocks struct{ list []stock }

type stock struct {
	symbol string
	open   euros
	price  euros
}

// stockFloor keeps a price where a hundredth of it is still a cent.
const stockFloor euros = 100

type stockEvent struct {
	Symbol string `json:"symbol"`
	Price  euros  `json:"price"`
	Change euros  `json:"change"` // since the simulation began
	Volume int    `json:"volume"`
	stamp
}

func newStocks(size int) scenario {
	return &stocks{each(names(size, "SYM", "SLCE", "GOFR", "EVNT", "PUBS", "NODE"), func(symbol string) stock {
		return stock{symbol: symbol, open: 10_000, price: 10_000}
	})}
}

func (s *stocks) next(r *rand.Rand) act {
	q := pick(r, s.list)
	step := int(q.price / 100)
	q.price = max(stockFloor, q.price+euros(between(r, -step, step)))
	return act{channel: "stocks:" + q.symbol, data: &stockEvent{
		Symbol: q.symbol, Price: q.price, Change: q.price - q.open, Volume: 10 * between(r, 1, 100),
	}}
}
