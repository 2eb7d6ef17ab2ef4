package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// One conversation with Redis: at most so many messages or about so many bytes
// (one message may be larger), and at most so long from the dial to the last
// answer. The numbers keep Redis' input buffer small and still hide the way
// there and back at any rate that one connection can carry.
const (
	batchMessages = 512
	batchBytes    = 1 << 20
	callLimit     = 3 * time.Second
)

// message is one PUBLISH.
type message struct {
	channel string
	payload []byte
}

// outbox is the way to Redis. Calls of one goroutine keep their order, also
// within a batch: it is one pipeline on one connection, and the next call
// begins after its answers.
type outbox struct{ client redis.UniversalClient }

// publish sends a batch and waits for the answers. acked counts the messages
// that Redis has confirmed, receivers is its answer to the last of them: how
// many subscribers got it. After an error the fate of the others is unknown; of
// a connection that broke, go-redis tells none of the batch's answers.
//
// An ended context does not cut the call off, which would leave just that doubt
// behind: a batch takes milliseconds, callLimit at the most.
func (o outbox) publish(ctx context.Context, batch []message) (acked int, receivers int64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	pipe := o.client.Pipeline()
	answers := make([]*redis.IntCmd, len(batch))
	for i, m := range batch {
		answers[i] = pipe.Publish(ctx, m.channel, m.payload)
	}
	_, err = pipe.Exec(ctx)
	for _, a := range answers {
		if a.Err() == nil {
			acked++
			receivers = a.Val()
		}
	}
	return acked, receivers, explain(err)
}

// ping asks whether Redis answers.
func (o outbox) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return explain(o.client.Ping(ctx).Err())
}

// explain says in words what "i/o timeout" and "context deadline exceeded" mean
// here; which of them it is, is a matter of microseconds. And what a user needs that
// Redis refuses.
func explain(err error) error {
	if redis.IsPermissionError(err) {
		return fmt.Errorf("%w (a publisher's user needs: %s)", err, Rights)
	}
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return fmt.Errorf("no answer in time: %w", err)
	}
	return err
}
