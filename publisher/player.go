package publisher

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"sluice/shared/event"
)

// scenario is one app's publisher: next is what it says next, in an order that
// its page could have seen in real life. Whatever varies comes from r.
type scenario interface {
	next(r *rand.Rand) act
}

// act is one message as the scenario makes it.
type act struct {
	channel string
	event   string // named: the payload is the envelope {event,data}; "": data alone
	// criteria, as JSON: the payload is {message,criteria}, with the data as message;
	// only where there is no event.
	criteria string
	data     stamped
}

// stamped is the JSON object of an act, a pointer to a struct with a stamp in it.
type stamped interface{ ownStamp() *stamp }

// stamp is what pages and tests measure by: order by seq, which counts each
// channel's messages from 1, and delay by timestamp.
type stamp struct {
	Timestamp string `json:"timestamp"`
	Seq       int64  `json:"seq"`
	Pad       string `json:"pad,omitempty"`
}

func (s *stamp) ownStamp() *stamp { return s }

// timestampFormat always has three digits of milliseconds, unlike RFC3339Nano.
const timestampFormat = "2006-01-02T15:04:05.000Z07:00"

// player turns a scenario's acts into messages. It is not for concurrent use.
type player struct {
	scenario scenario
	rng      *rand.Rand
	now      func() time.Time
	seqs     map[string]int64
	filler   string // as long as a payload is to be
}

// newPlayer plays s. The same name, seed and size give the same messages but for
// their timestamps; the name is part of it so that a scenario says the same
// alone and among all.
func newPlayer(s Scenario, o SimulateOptions) *player {
	h := fnv.New64a()
	h.Write([]byte(s.Name))
	return &player{
		scenario: s.build(o.Size),
		rng:      rand.New(rand.NewPCG(o.Seed, h.Sum64())),
		now:      time.Now,
		seqs:     map[string]int64{},
		filler:   strings.Repeat("x", o.Bytes),
	}
}

func (p *player) next() message {
	a := p.scenario.next(p.rng)
	p.seqs[a.channel]++
	st := a.data.ownStamp()
	*st = stamp{Timestamp: p.now().UTC().Format(timestampFormat), Seq: p.seqs[a.channel]}
	payload := a.encode()
	if missing := len(p.filler) - len(payload) - len(`,"pad":""`); missing > 0 {
		st.Pad = p.filler[:missing]
		payload = a.encode()
	}
	return message{a.channel, payload}
}

func (a act) encode() []byte {
	data, err := json.Marshal(a.data)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", a.data, err)) // plain structs: a mistake in the program
	}
	switch {
	case a.event != "":
		return event.Envelope(a.event, data)
	case a.criteria != "":
		return fmt.Appendf(nil, `{"message":%s,"criteria":%s}`, data, a.criteria)
	}
	return data
}
