package publisher

import (
	"fmt"

	"sluice/shared/channel"
	"sluice/shared/wire"
)

// checkMessage refuses what the bridge would not mirror: nobody would get it, and
// nobody would hear of that.
func (s *Server) checkMessage(m message) *refusal {
	if limit := s.cfg.Publisher.MaxPayload; len(m.payload) > limit {
		return &refusal{why: payloadTooLarge, text: fmt.Sprintf("the payload has %d bytes: want at most %d", len(m.payload), limit)}
	}
	if _, err := channel.Subject(m.channel); err != nil {
		return &refusal{why: nameTooLong, text: err.Error()}
	}
	if m.channel == wire.MarkChannel || channel.OfRedis(m.channel) {
		return &refusal{why: reservedName, text: fmt.Sprintf("channel %q is one of Redis or of the bridges themselves", m.channel)}
	}
	return nil
}
