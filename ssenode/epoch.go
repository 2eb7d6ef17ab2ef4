package ssenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

// How long one question to the stream may take, and how long to wait before it
// is asked again.
const (
	askLimit = time.Second
	askAgain = 500 * time.Millisecond
	// tellAfter is how long it may fail before the log tells: when all is
	// started at once the bridge needs a moment.
	tellAfter = 2 * time.Second
)

// learner reads the last pulse from the stream when a node starts and whenever
// its connection was lost, so that it knows the epoch without having to wait
// for the next pulse.
type learner struct {
	nc     *nats.Conn
	stream wire.Stream
	log    *slog.Logger
	kick   chan struct{} // capacity 1
	out    chan<- learned
}

// again asks for the pulse to be read; never blocks.
func (l *learner) again() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *learner) run(ctx context.Context) {
	for {
		warned, since := false, time.Now()
		select {
		case <-l.kick:
		case <-ctx.Done():
			return
		}
		for {
			p, seq, err := l.last(ctx)
			if err == nil {
				select {
				case l.out <- learned{p, seq}:
				case <-ctx.Done():
					return
				}
				break
			}
			if !warned && time.Since(since) > tellAfter && l.nc.IsConnected() && ctx.Err() == nil {
				l.log.Warn("no pulse in the stream yet: is the bridge running?", "stream", l.stream.Name, "error", err)
				warned = true
			}
			select {
			case <-time.After(askAgain):
			case <-ctx.Done():
				return
			}
		}
	}
}

// last reads the newest pulse by direct get, which any replica answers.
func (l *learner) last(ctx context.Context) (wire.Pulse, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+l.stream.Name+"."+l.stream.Log()+wire.PulseToken, nil)
	if err != nil {
		return wire.Pulse{}, 0, fmt.Errorf("read last pulse: %w", err)
	}
	if status := m.Header.Get("Status"); status != "" {
		return wire.Pulse{}, 0, fmt.Errorf("read last pulse: %s %s", status, m.Header.Get("Description"))
	}
	seq := sequence(m)
	if seq == 0 {
		return wire.Pulse{}, 0, errors.New("read last pulse: answer without a sequence")
	}
	p, err := wire.ParsePulse(m.Data)
	return p, seq, err
}
