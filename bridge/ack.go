package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ack is JetStream's answer to a publish.
type ack struct {
	Seq   uint64 `json:"seq"`
	Count uint64 `json:"count"` // of a batch
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// plainAck reads the answer to a message that was stored, as the server writes it:
// {"stream":"NAME","seq":N}. It returns 0 for any other. (Package json took an eighth
// of the bridge's time.)
func plainAck(data []byte) (seq uint64) {
	if !bytes.HasPrefix(data, []byte(`{"stream":"`)) {
		return 0
	}
	_, rest, _ := bytes.Cut(data, []byte(`","seq":`))
	digits, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return 0
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0 // there is more in it than these two
	}
	return seq
}

// errWrongSequence is the stream's answer to a message that expects another end.
var errWrongSequence = errors.New("the stream has another last sequence")

// codes of JetStream's errors that mean so.
const (
	wrongLastSequence         = 10071
	wrongLastSequenceConstant = 10164
)

// parseAck reads an answer of the stream; an error of the stream's is one here.
func parseAck(m *nats.Msg) (ack, error) {
	var a ack
	if s := m.Header.Get("Status"); s != "" {
		return a, fmt.Errorf("no stream answers (%s)", s)
	}
	if a.Seq = plainAck(m.Data); a.Seq != 0 {
		return a, nil
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return a, fmt.Errorf("answer %.100q: %w", m.Data, err)
	}
	if a.Error != nil && (a.Error.Code == wrongLastSequence || a.Error.Code == wrongLastSequenceConstant) {
		return a, fmt.Errorf("%w: %s", errWrongSequence, a.Error.Description)
	}
	if a.Error != nil {
		return a, fmt.Errorf("JetStream error %d: %s", a.Error.Code, a.Error.Description)
	}
	return a, nil
}

// acknowledged takes one answer of the stream.
func (l *leader) acknowledged(m *nats.Msg) error {
	attempt, number, ok := replyOf(m.Subject[len(l.inbox)+1:])
	if !ok || attempt != l.attempt {
		return nil // of before the last barrier
	}
	a, err := parseAck(m)
	if err != nil {
		return err
	}
	// An acknowledgement is one for all before it, too: each expected the one
	// before.
	for l.window.len() > 0 && l.window.at(0).number <= number {
		first := l.window.at(0)
		if first.number == number && first.seq != a.Seq {
			return errors.New("acknowledged with another sequence than expected")
		}
		if first.pulse != nil {
			l.lastPulse = first.seq
			l.heard = first.pulse.Time
			l.stats.pulseTime.Observe(time.Since(first.pulse.Time).Seconds())
		}
		l.countStored(first)
		l.window.pop()
	}
	l.acked = max(l.acked, a.Seq)
	return nil
}

func replyOf(suffix string) (attempt, number uint64, ok bool) {
	a, n, _ := strings.Cut(suffix, ".")
	attempt, err1 := strconv.ParseUint(a, 10, 64)
	number, err2 := strconv.ParseUint(n, 10, 64)
	return attempt, number, err1 == nil && err2 == nil
}
