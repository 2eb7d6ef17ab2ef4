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
	told  bool  // of what cannot be changed
	fits  int64 // bytes that the server turned out to have room for, 0: as many as are set
}

func (k *keeper) wanted(ctx context.Context) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:               k.names.Name,
		Description:        "events of Redis channels, written by Sluice's bridge",
		Subjects:           []string{k.names.Log() + ">"},
		Storage:            jetstream.MemoryStorage,
		Replicas:           k.cfg.Bridge.Replicas,
		Discard:            jetstream.DiscardOld,
		MaxMsgsPerSubject:  int64(k.cfg.Routes.MaxCount()),
		MaxAge:             k.cfg.Routes.MaxAge(),
		MaxBytes:           k.cfg.Bridge.MaxBytes,
		Duplicates:         100 * time.Millisecond, // unused; the server's least
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true, // for padding, see barrier.go
		RePublish:          &jetstream.RePublish{Source: k.names.Log() + ">", Destination: k.names.Live() + ">"},
	}
	if k.cfg.Bridge.Storage == "file" {
		c.Storage = jetstream.FileStorage
	}
	if k.fits != 0 {
		c.MaxBytes = k.fits
	}
	if c.Storage == jetstream.FileStorage {
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

// ensure makes the stream, or adjusts it.
func (k *keeper) ensure(ctx context.Context) error {
	want := k.wanted(ctx)
	s, err := k.js.Stream(ctx, k.names.Name) // asks for the info
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if made, err := k.fit(ctx, want, 0, k.js.CreateStream); err != nil || made {
			return err
		}
		return fmt.Errorf("create stream %s: the server has no room for %d bytes", want.Name, minBytes)
	}
	if err != nil {
		return fmt.Errorf("look for stream %s: %w", want.Name, err)
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
		return nil
	}
	if want.MaxBytes <= have.Config.MaxBytes {
		return k.apply(ctx, want, k.js.UpdateStream)
	}
	// It may be smaller because there was no room when it was made.
	if bigger, err := k.fit(ctx, want, have.Config.MaxBytes, k.js.UpdateStream); err != nil || bigger {
		return err
	}
	k.fits, want.MaxBytes = have.Config.MaxBytes, have.Config.MaxBytes
	if same(have.Config, want) {
		return nil
	}
	return k.apply(ctx, want, k.js.UpdateStream)
}

// change is CreateStream or UpdateStream.
type change func(context.Context, jetstream.StreamConfig) (jetstream.Stream, error)

func (k *keeper) apply(ctx context.Context, want jetstream.StreamConfig, do change) error {
	s, err := do(ctx, want)
	if err != nil {
		return fmt.Errorf("create or adjust stream %s of %d bytes: %w", want.Name, want.MaxBytes, err)
	}
	if !s.CachedInfo().Config.AllowAtomicPublish {
		return fmt.Errorf("stream %s: the NATS server does not know atomic batches: want 2.12 or newer, it is %s", want.Name, k.nc.ConnectedServerVersion())
	}
	k.log.Debug("stream created or adjusted", "stream", want.Name, "storage", want.Storage.String(),
		"replicas", want.Replicas, "bytes", want.MaxBytes)
	return nil
}

// fit applies the configuration with the wanted size, or half of it and so on
// while the server has no room; it returns false when not even something above
// least was possible. A client cannot ask how much memory a server has, but it
// can reserve as much as its share is of, and then give the rest back.
func (k *keeper) fit(ctx context.Context, want jetstream.StreamConfig, least int64, do change) (done bool, err error) {
	size := want.MaxBytes
	for ; want.MaxBytes > least && want.MaxBytes >= minBytes; want.MaxBytes /= 2 {
		ask := want
		if want.Storage == jetstream.MemoryStorage {
			ask.MaxBytes = int64(float64(want.MaxBytes) / memoryShare)
		}
		err := k.apply(ctx, ask, do)
		if err == nil && ask.MaxBytes != want.MaxBytes {
			err = k.apply(ctx, want, k.js.UpdateStream)
		}
		var api *jetstream.APIError
		switch {
		case err == nil:
			if want.MaxBytes != size {
				k.fits = want.MaxBytes
				k.log.Warn("the NATS server has no room for BRIDGE_MAX_BYTES", "wanted", size, "set", want.MaxBytes)
			}
			return true, nil
		case !errors.As(err, &api) || !slices.Contains(noRoom, int(api.ErrorCode)):
			return false, err
		}
	}
	return false, nil
}

// noRoom are codes of JetStream errors that mean: not so much. They stand for
// insufficient resources, memory and storage.
var noRoom = []int{10023, 10028, 10047}

// same compares what we set; the server fills in the rest.
func same(have, want jetstream.StreamConfig) bool {
	return have.Replicas == want.Replicas && have.MaxMsgsPerSubject == want.MaxMsgsPerSubject &&
		have.MaxAge == want.MaxAge && (have.MaxBytes == want.MaxBytes) && have.Discard == want.Discard &&
		have.AllowDirect && have.AllowMsgTTL && have.AllowAtomicPublish && have.RePublish != nil && *have.RePublish == *want.RePublish &&
		len(have.Subjects) == 1 && have.Subjects[0] == want.Subjects[0]
}
