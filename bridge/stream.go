package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/wire"
)

// memoryShare is the part of the JetStream account's memory that the stream may
// take: a server whose memory is full refuses every publish and gives up its
// streams' leadership.
const memoryShare = 0.4

// keeper makes the stream and keeps it as the settings say.
type keeper struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	names wire.Stream
	cfg   *Config
	log   *slog.Logger
	told  bool // of what cannot be changed
}

func (k *keeper) wanted(ctx context.Context) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:              k.names.Name,
		Description:       "events of Redis channels, written by Sluice's bridge",
		Subjects:          []string{k.names.Log() + ">"},
		Storage:           jetstream.MemoryStorage,
		Replicas:          k.cfg.Bridge.Replicas,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: int64(k.cfg.Routes.MaxCount()),
		MaxAge:            k.cfg.Routes.MaxAge(),
		MaxBytes:          k.cfg.Bridge.MaxBytes,
		Duplicates:        100 * time.Millisecond, // unused; the server's least
		AllowDirect:       true,
		AllowMsgTTL:       true,
		RePublish:         &jetstream.RePublish{Source: k.names.Log() + ">", Destination: k.names.Live() + ">"},
	}
	if k.cfg.Bridge.Storage == "file" {
		c.Storage = jetstream.FileStorage
		return c
	}
	if info, err := k.js.AccountInfo(ctx); err == nil && info.Limits.MaxMemory > 0 {
		if limit := int64(float64(info.Limits.MaxMemory) * memoryShare); c.MaxBytes > limit {
			k.log.Warn("BRIDGE_MAX_BYTES is lowered to a share of the JetStream memory", "wanted", c.MaxBytes, "set", limit)
			c.MaxBytes = limit
		}
	}
	return c
}

// ensure makes the stream, or adjusts it, and returns its state as the stream's
// leader sees it.
func (k *keeper) ensure(ctx context.Context) (*jetstream.StreamInfo, error) {
	want := k.wanted(ctx)
	s, err := k.js.Stream(ctx, k.names.Name) // asks for the info
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return k.create(ctx, want)
	}
	if err != nil {
		return nil, fmt.Errorf("look for stream %s: %w", want.Name, err)
	}
	have := s.CachedInfo()
	if have.Config.Storage != want.Storage {
		// NATS cannot change it, and to delete the stream would lose history.
		if !k.told {
			k.told = true
			k.log.Error("the stream exists with another storage and is used as it is; delete it to change that",
				"BRIDGE_STORAGE", k.cfg.Bridge.Storage, "storage", have.Config.Storage.String())
		}
		want.Storage = have.Config.Storage
	}
	if same(have.Config, want) {
		return have, nil
	}
	s, err = k.js.UpdateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("adjust stream %s: %w", want.Name, err)
	}
	k.log.Info("stream adjusted", "stream", want.Name)
	return s.CachedInfo(), nil
}

// create halves the size while the server says that it has no room for it.
func (k *keeper) create(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	for {
		s, err := k.js.CreateStream(ctx, want)
		if err == nil {
			k.log.Info("stream created", "stream", want.Name, "storage", want.Storage.String(), "replicas", want.Replicas, "bytes", want.MaxBytes)
			return s.CachedInfo(), nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || !slices.Contains(noRoom, int(api.ErrorCode)) || want.MaxBytes/2 < minBytes {
			return nil, fmt.Errorf("create stream %s of %d bytes: %w", want.Name, want.MaxBytes, err)
		}
		k.log.Warn("the NATS server has no room for BRIDGE_MAX_BYTES, trying half", "bytes", want.MaxBytes, "error", err)
		want.MaxBytes /= 2
	}
}

// noRoom are codes of JetStream errors that mean: not so much. They stand for
// insufficient resources, memory and storage.
var noRoom = []int{10023, 10028, 10047}

// same compares what we set; the server fills in the rest.
func same(have, want jetstream.StreamConfig) bool {
	return have.Replicas == want.Replicas && have.MaxMsgsPerSubject == want.MaxMsgsPerSubject &&
		have.MaxAge == want.MaxAge && (have.MaxBytes == want.MaxBytes) && have.Discard == want.Discard &&
		have.AllowDirect && have.AllowMsgTTL && have.RePublish != nil && *have.RePublish == *want.RePublish &&
		len(have.Subjects) == 1 && have.Subjects[0] == want.Subjects[0]
}
