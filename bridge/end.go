package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/wire"
)

// end is what stands at the end of the stream.
type end struct {
	seq      uint64        // of the last message, also when that has gone already
	stamp    wire.Stamp    // of the last bridge's message still there, zero if none
	pulse    wire.Pulse    // the last one, zero if none
	age      time.Duration // of that pulse, by the server's clock
	pulseSeq uint64        // its sequence
	fence    string        // who wrote the last message, if that is padding
	fenced   time.Duration // and how long ago, by the server's clock
}

// quiet tells that nobody has anything on the way to the stream: whoever led has
// said farewell.
func (e *end) quiet() bool { return e.pulse.Leaving && e.pulseSeq == e.seq }

// stored is a message as the stream's leader gives it out.
type stored struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

var errNone = errors.New("no such message")

// maxForeign is how many messages that are not a bridge's are passed over.
const maxForeign = 64

// readEnd reads the end of the stream. It is the zero end if there is no stream.
func (k *keeper) readEnd(ctx context.Context) (end, error) {
	stream, err := k.js.Stream(ctx, k.names.Name) // asks for the info
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return end{}, nil
	}
	if err != nil {
		return end{}, fmt.Errorf("look for stream %s: %w", k.names.Name, err)
	}
	info := stream.CachedInfo()
	e := end{seq: info.State.LastSeq}
	// Not ">", for which a memory stream looks only at its last sequence: what stood
	// there may have expired.
	last, err := k.get(ctx, map[string]any{"last_by_subj": k.names.Log() + ">"})
	if errors.Is(err, errNone) {
		return e, nil
	}
	if err != nil {
		return end{}, err
	}
	e.seq = max(e.seq, last.Seq)
	if last.Subject == k.names.Log()+wire.FenceToken {
		e.fence, e.fenced = string(last.Data), info.TimeStamp.Sub(last.Time)
	}
	for i := 0; ; i++ {
		h, err := nats.DecodeHeadersMsg(last.Header)
		if err == nil {
			if e.stamp, err = wire.ParseStamp(h.Get(wire.Header)); err == nil {
				break
			}
		}
		k.log.Error("a message in the stream is not a bridge's: who else writes there?", "stream", k.names.Name, "sequence", last.Seq, "subject", last.Subject)
		if i == maxForeign || last.Seq <= info.State.FirstSeq {
			break
		}
		if last, err = k.get(ctx, map[string]any{"seq": last.Seq - 1}); errors.Is(err, errNone) {
			break
		} else if err != nil {
			return end{}, err
		}
	}
	p, err := k.get(ctx, map[string]any{"last_by_subj": k.names.Log() + wire.PulseToken})
	if errors.Is(err, errNone) {
		return e, nil
	}
	if err != nil {
		return end{}, err
	}
	if e.pulse, err = wire.ParsePulse(p.Data); err != nil {
		return end{}, err
	}
	e.age, e.pulseSeq = info.TimeStamp.Sub(p.Time), p.Seq
	return e, nil
}

// get reads one message by the API that only the stream's leader answers: a
// replica may lag, and nats.go asks any of them.
func (k *keeper) get(ctx context.Context, what map[string]any) (*stored, error) {
	req, _ := json.Marshal(what) // strings and numbers
	m, err := k.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+k.names.Name, req)
	if err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", k.names.Name, err)
	}
	var resp struct {
		Message *stored `json:"message"`
		Error   *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", k.names.Name, err)
	}
	switch {
	case resp.Error != nil && resp.Error.Code == 404:
		return nil, errNone
	case resp.Error != nil:
		return nil, fmt.Errorf("read from stream %s: %s", k.names.Name, resp.Error.Description)
	case resp.Message == nil:
		return nil, fmt.Errorf("read from stream %s: empty answer", k.names.Name)
	}
	return resp.Message, nil
}
