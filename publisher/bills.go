package publisher

import (
	"fmt"
	"math/rand/v2"
)

// bills go through an office, several at a time, all on one channel. A bill
// that is done makes room for a new one.
type bills struct {
	open  []bill
	count int
}

type bill struct {
	id     string
	amount euros
	status string
}

type billEvent struct {
	BillID string `json:"billId"`
	Status string `json:"status"`
	stamp
	Amount euros `json:"amount"`
}

// billSteps is what comes after a status; from the last ones on it is a new bill.
var billSteps = map[string]string{
	"":          "received",
	"received":  "checked",
	"checked":   "approved",
	"approved":  "scheduled",
	"scheduled": "paid",
}

func newBills(size int) scenario { return &bills{open: make([]bill, size)} }

func (s *bills) next(r *rand.Rand) act {
	b := pick(r, s.open)
	if billSteps[b.status] == "" || b.id == "" {
		s.count++
		*b = bill{id: fmt.Sprintf("bill-%d", s.count), amount: euros(between(r, 1_000, 250_000))}
	}
	if b.status == "checked" && r.IntN(8) == 0 {
		b.status = "rejected"
	} else {
		b.status = billSteps[b.status]
	}
	return act{channel: "billStatusChannel", data: &billEvent{BillID: b.id, Status: b.status, Amount: b.amount}}
}
