package publisher

import "math/rand/v2"

// services are backends that push to all clients, to the members of a group or to one
// client, by the channels that each of these is on without asking.
type services struct{ clients, groups []string }

type serviceEvent struct {
	stamp
	Text string `json:"text"`
}

func newServices(size int) scenario {
	return &services{names(size, "client"), names(size, "group", "staff", "editors", "guests")}
}

func (s *services) next(r *rand.Rand) act {
	switch r.IntN(4) {
	case 0:
		return act{channel: "sse:broadcast", event: "broadcast", data: &serviceEvent{Text: "to all"}}
	case 1:
		group := *pick(r, s.groups)
		return act{channel: "sse:group:" + group, event: "group-message", data: &serviceEvent{Text: "to " + group}}
	default:
		client := *pick(r, s.clients)
		return act{channel: "sse:channel:" + client, event: "notification", data: &serviceEvent{Text: "to " + client}}
	}
}
