package publisher

import (
	"fmt"
	"math/rand/v2"
)

// notifications are what an app tells each user of what others did. Its users are
// others than those of orders: both say user:{userId}, and each counts for itself.
type notifications struct{ users []string }

type notificationEvent struct {
	Type string `json:"type"`
	stamp
	From string `json:"from"`
	Text string `json:"text"`
}

// notificationKinds are what others do.
var notificationKinds = []struct{ kind, text string }{
	{"message", "%s has written to you."},
	{"mention", "%s has mentioned you."},
	{"invitation", "%s invites you to a race."},
}

func newNotifications(size int) scenario {
	return &notifications{names(size, "reader", "frank", "grace", "heidi", "ivan", "judy")}
}

func (s *notifications) next(r *rand.Rand) act {
	user, kind, from := *pick(r, s.users), *pick(r, notificationKinds), *pick(r, people())
	return act{channel: "user:" + user, event: "notification", data: &notificationEvent{
		Type: kind.kind, From: from, Text: fmt.Sprintf(kind.text, from),
	}}
}
