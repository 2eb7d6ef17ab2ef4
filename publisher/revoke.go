package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/natsconn"
	"sluice/shared/wire"
)

const (
	// natsLimit bounds the connection to NATS, and then what is done there.
	natsLimit = 3 * time.Second
	// longestName bounds a subject or a token's id in bytes.
	longestName = 4096
)

// openNATS returns a connection, or the error of not having one in natsLimit. name is
// of whom, see natsconn.Open.
func openNATS(ctx context.Context, s natsconn.Settings, name string, log *slog.Logger) (*nats.Conn, error) {
	up := make(chan struct{}, 1)
	var why atomic.Pointer[error]
	nc, err := natsconn.Open(s, name, log, natsconn.Hooks{
		Up: func() {
			select {
			case up <- struct{}{}:
			default:
			}
		},
		Failed: func(err error) { why.Store(&err) },
	})
	if err != nil {
		return nil, err
	}
	limit := time.NewTimer(natsLimit)
	defer limit.Stop()
	for !nc.IsConnected() {
		select {
		case <-up:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-limit.C:
			err = errors.New("no answer in time")
			if cause := why.Load(); cause != nil {
				err = *cause
			}
		}
		nc.Close()
		return nil, fmt.Errorf("connect to NATS_URL=%s: %w", natsconn.Redact(s.URL), err)
	}
	return nc, nil
}

// Revoke puts a revocation into the bucket, which it makes if there is none. Nodes
// heed it at once. A later one of the same subject or token takes its place.
func Revoke(ctx context.Context, nc *nats.Conn, names wire.Stream, r wire.Revocation) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := revokedBucket(ctx, js, names); err != nil {
		return err
	}
	// It is kept for as long as it counts; the server knows no less than a second.
	left := max(time.Second, time.Until(r.Until).Round(time.Second))
	m := &nats.Msg{Subject: names.RevokedPrefix() + r.Key(), Data: r.Encode()}
	_, err = js.PublishMsg(ctx, m, jetstream.WithMsgTTL(left), jetstream.WithExpectStream(names.RevokedStream()))
	if err != nil {
		return fmt.Errorf("put into bucket %s: %w", names.Revoked(), err)
	}
	return nil
}

// revokedBucket makes the bucket if there is none. It is kept on disk, and has as
// many replicas as the stream of events.
func revokedBucket(ctx context.Context, js jetstream.JetStream, names wire.Stream) error {
	_, err := js.Stream(ctx, names.RevokedStream())
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		if err != nil {
			return fmt.Errorf("look for bucket %s: %w", names.Revoked(), err)
		}
		return nil
	}
	replicas := 1
	switch s, err := js.Stream(ctx, names.Name); {
	case err == nil:
		replicas = s.CachedInfo().Config.Replicas
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("look for stream %s: %w", names.Name, err)
	}
	_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: names.Revoked(), Description: "subjects and tokens that Sluice's nodes refuse",
		TTL: wire.MaxRevoked, MaxBytes: wire.RevokedBytes, Storage: jetstream.FileStorage, Replicas: replicas,
		LimitMarkerTTL: time.Second, // without it no key could have an end of its own
	})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) { // somebody else has just made it
		return fmt.Errorf("make bucket %s: %w", names.Revoked(), err)
	}
	return nil
}
