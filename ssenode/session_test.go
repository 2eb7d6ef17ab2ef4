package ssenode

import "testing"

// What is put behind the rest of a frame is not written into the frame's own room,
// which others share.
func TestBehindRestCopies(t *testing.T) {
	shared := make([]byte, 4, 64)
	for _, text := range []string{"mine", "hers"} {
		s := &session{loop: &loop{stats: &stats{}}, lag: &lag{rest: shared[2:]}}
		s.behindRest([]byte(text))
		if got := string(s.rest[2:]); got != text {
			t.Errorf("rest %q, want %q", got, text)
		}
		if room := string(shared[:8][4:]); room != "\x00\x00\x00\x00" {
			t.Errorf("in the frame's room: %q", room)
		}
	}
}
