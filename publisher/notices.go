package publisher

import "math/rand/v2"

// notices go to one channel and each is for those only whose attributes fit.
type notices struct{}

type noticeEvent struct {
	Type string `json:"type"`
	stamp
	Text string `json:"text"`
}

// noticeKinds tell whom a notice is for, in its type and in its criteria.
var noticeKinds = []struct{ kind, criteria, text string }{
	{"for-all", `{}`, "The site moves at noon."},
	{"for-admins", `{"role":"admin"}`, "The disk is nearly full."},
	{"for-staff", `{"role":["admin","editor"]}`, "The meeting is at ten."},
	{"for-beta-admins", `{"role":"admin","beta":true}`, "The new console is there."},
}

func newNotices(int) scenario { return notices{} }

func (notices) next(r *rand.Rand) act {
	kind := *pick(r, noticeKinds)
	return act{channel: "notices", criteria: kind.criteria, data: &noticeEvent{Type: kind.kind, Text: kind.text}}
}
