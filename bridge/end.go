package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
	info, err := k.info(ctx)
	if err != nil || info == nil {
		return end{}, err
	}
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

// info is how the stream's leader describes it, nil if there is no stream.
func (k *keeper) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := ask[jetstream.StreamInfo](ctx, k, "INFO", nil)
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for stream %s: %w", k.names.Name, err)
	}
	return info, nil
}

// get reads one message by the API that only the stream's leader answers: a
// replica may lag, and nats.go asks any of them.
func (k *keeper) get(ctx context.Context, what map[string]any) (*stored, error) {
	req, _ := json.Marshal(what) // strings and numbers
	resp, err := ask[struct {
		Message *stored `json:"message"`
	}](ctx, k, "MSG.GET", req)
	switch {
	case errors.Is(err, errNone):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read from stream %s: %w", k.names.Name, err)
	case resp.Message == nil:
		return nil, fmt.Errorf("read from stream %s: empty answer", k.names.Name)
	}
	return resp.Message, nil
}

// askAgain is how long after a question to the stream's leader it is asked again.
const askAgain = 200 * time.Millisecond

// ask asks the stream's leader until it answers or the context ends; errNone is its
// answer that there is none. While the servers elect a leader a question is lost, so it
// is put again and again: to wait for the answer to the first one would make each
// election last until this bridge gives up, and asks anew. All of them only read.
func ask[T any](ctx context.Context, k *keeper, what string, request []byte) (*T, error) {
	inbox := k.nc.NewInbox()
	sub, err := k.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only once the connection is closed
	for {
		if err := k.nc.PublishRequest("$JS.API.STREAM."+what+"."+k.names.Name, inbox, request); err != nil {
			return nil, err
		}
		once, cancel := context.WithTimeout(ctx, askAgain)
		m, err := sub.NextMsgWithContext(once)
		var answer *T
		if err == nil {
			answer, err = answerOf[T](m)
		}
		if away := (*jetstream.APIError)(nil); errors.As(err, &away) && away.Code == http.StatusServiceUnavailable {
			<-once.Done() // no leader of all streams either
		}
		over := once.Err() != nil
		cancel()
		if err == nil || !over || ctx.Err() != nil {
			return answer, err
		}
	}
}

func answerOf[T any](m *nats.Msg) (*T, error) {
	if status := m.Header.Get("Status"); status != "" {
		return nil, fmt.Errorf("nobody answers: JetStream is off or away (%s)", status)
	}
	var problem struct {
		Error *jetstream.APIError `json:"error"`
	}
	answer := new(T)
	for _, into := range []any{&problem, answer} {
		if err := json.Unmarshal(m.Data, into); err != nil {
			return nil, err
		}
	}
	switch {
	case problem.Error == nil:
		return answer, nil
	case problem.Error.Code == http.StatusNotFound:
		return nil, errNone
	}
	return nil, problem.Error
}
