package publisher

import "math/rand/v2"

// alerts are places where much is told that can wait, and now and then something that
// cannot: an urgent channel beside a normal one and an unimportant one.
type alerts struct{ places []string }

type alertEvent struct {
	Type string `json:"type"`
	stamp
	Place string `json:"place"`
	Text  string `json:"text"`
}

func newAlerts(size int) scenario { return &alerts{slugs(size)} }

func (s *alerts) next(r *rand.Rand) act {
	place := *pick(r, s.places)
	e := &alertEvent{Place: place}
	var prefix string
	switch r.IntN(20) {
	case 0:
		prefix, e.Type, e.Text = "alerts:", "alert", "Leave the building."
	case 1, 2, 3, 4, 5, 6, 7:
		prefix, e.Type, e.Text = "updates:", "update", "The lift works again."
	default:
		prefix, e.Type, e.Text = "trivia:", "trivia", "It is warm today."
	}
	return act{channel: prefix + place, data: e}
}
