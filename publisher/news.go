package publisher

import "math/rand/v2"

// news are headlines by section; a page shows some sections or all.
type news struct{ sections []string }

type newsEvent struct {
	Section  string `json:"section"`
	Headline string `json:"headline"`
	stamp
}

var headlines = []string{
	"Nothing happened today, sources say",
	"Local server answers all questions with 200",
	"Heartbeat heard every thirty seconds",
	"Reader returns after outage: \"I have missed nothing\"",
}

func newNews(size int) scenario {
	return &news{names(size, "section", "world", "economy", "science", "sports", "weather")}
}

func (s *news) next(r *rand.Rand) act {
	section := *pick(r, s.sections)
	return act{channel: "news:" + section, event: "breaking-news", data: &newsEvent{Section: section, Headline: *pick(r, headlines)}}
}
