package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/wire"
)

// trace is what the stream has of the channel that a complaint names, with the
// pulses that begin a term and the gap marks: whether the bridges are to blame
// or a node.
func (p *pair) trace(complaint string) string {
	found := regexp.MustCompile(`(?:channel |paced:)(\d+)`).FindStringSubmatch(complaint)
	if found == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	nc, err := nats.Connect(p.nats.URL())
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err.Error()
	}
	stream, err := js.Stream(ctx, "SLUICE")
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	list := func(token string, most int, show func(*jetstream.RawStreamMsg) string) {
		var lines []string
		for seq := uint64(1); ; {
			m, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject("sluice.log."+token))
			if err != nil {
				break
			}
			if line := show(m); line != "" {
				lines = append(lines, fmt.Sprintf("%d [%s] %s %s", m.Sequence, m.Header.Get(wire.Header), m.Time.Format("05.000"), line))
			}
			seq = m.Sequence + 1
		}
		fmt.Fprintf(&text, "%s:\n%s\n", token, strings.Join(lines[max(0, len(lines)-most):], "\n"))
	}
	list("paced."+found[1], 100, func(m *jetstream.RawStreamMsg) string { return fmt.Sprintf("%.30s", m.Data) })
	list(wire.GapToken, 20, func(m *jetstream.RawStreamMsg) string { return fmt.Sprintf("%.200s", m.Data) })
	list(wire.PulseToken, 30, func(m *jetstream.RawStreamMsg) string {
		if pulse, err := wire.ParsePulse(m.Data); err != nil || !pulse.Marked {
			return ""
		}
		return fmt.Sprintf("%.250q", m.Data)
	})
	return fmt.Sprintf("now %s, the stream has of channel %s\n%s", time.Now().UTC().Format("05.000"), found[1], text.String())
}
