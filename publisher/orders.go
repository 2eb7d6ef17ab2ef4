package publisher

import (
	"fmt"
	"math/rand/v2"
)

// orders are on their way to users, each of whom hears of their own only.
type orders struct {
	users []customer
	count int
}

type customer struct {
	id    string
	order string
	steps int // taken by this order
}

type orderEvent struct {
	Type string `json:"type"`
	stamp
	OrderID string `json:"orderId"`
	Title   string `json:"title"`
	Message string `json:"message"`
}

// orderSteps are the types of an order's notifications with what they say.
var orderSteps = []struct{ kind, title, message string }{
	{"order_placed", "Order received", "We have your order %s."},
	{"order_paid", "Payment received", "Order %s is paid."},
	{"order_shipped", "On its way", "Order %s has left our warehouse."},
	{"order_delivered", "Delivered", "Order %s is at your door."},
}

func newOrders(size int) scenario {
	return &orders{users: each(names(size, "user", people()...), func(id string) customer { return customer{id: id} })}
}

func (s *orders) next(r *rand.Rand) act {
	u := pick(r, s.users)
	if u.steps == 0 {
		s.count++
		u.order = fmt.Sprint(1000 + s.count)
	}
	step := orderSteps[u.steps]
	u.steps = (u.steps + 1) % len(orderSteps)
	return act{channel: "user:" + u.id, event: "notification", data: &orderEvent{
		Type: step.kind, OrderID: u.order, Title: step.title, Message: fmt.Sprintf(step.message, u.order),
	}}
}
