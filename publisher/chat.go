package publisher

import "math/rand/v2"

// chats are rooms in which people talk.
type chats struct{ rooms []string }

type chatEvent struct {
	Room string `json:"room"`
	From string `json:"from"`
	Text string `json:"text"`
	stamp
}

// chatLines have what a page must show as it is: quotes, markup, other
// alphabets, line breaks.
var chatLines = []string{
	"hello everyone",
	"did you see the last race?",
	"she said \"never again\" :-)",
	"1 < 2 && 3 > 2, always",
	"grüß Gott, 你好, привет 👋",
	"two lines:\nthis is the second",
	"brb",
	"who is on the other node?",
}

func newChats(size int) scenario { return &chats{slugs(size)} }

func (s *chats) next(r *rand.Rand) act {
	room := *pick(r, s.rooms)
	return act{channel: "chat:" + room, event: "message", data: &chatEvent{
		Room: room, From: *pick(r, people()), Text: *pick(r, chatLines),
	}}
}
