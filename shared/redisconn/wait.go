package redisconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Wait pings Redis until it answers, with pauses of 100 ms to 5 s. It logs when
// it starts to wait, with the reason, again when the reason becomes another one
// (the server is up, but the password is wrong), and when Redis is up; nothing
// if the first ping succeeds. The error is ctx's, with the last reason, or
// redis.ErrClosed.
func Wait(ctx context.Context, client redis.UniversalClient, log *slog.Logger) error {
	var pause Backoff
	start, last := time.Now(), ""
	for {
		err := ping(ctx, client)
		switch {
		case err == nil:
			if last != "" {
				log.Info("redis is up", "waited", time.Since(start).Round(time.Millisecond))
			}
			return nil
		case errors.Is(err, redis.ErrClosed):
			return fmt.Errorf("wait for redis: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("wait for redis: %w (%v)", ctx.Err(), err)
		}
		if r := reason(err); r != last {
			log.Warn("waiting for redis", "reason", err)
			last = r
		}
		if pause.Sleep(ctx) != nil {
			return fmt.Errorf("wait for redis: %w (%v)", ctx.Err(), err)
		}
	}
}

func ping(ctx context.Context, client redis.UniversalClient) error {
	// Between the time for one try and that for all: retrying is done here.
	ctx, cancel := context.WithTimeout(ctx, DialTimeout+ReadTimeout)
	defer cancel()
	return client.Ping(ctx).Err()
}

// reason is what makes two errors the same for the log. The texts of network
// errors differ at each try, in port numbers and the like; of an answer from
// Redis the first word tells the kind (NOAUTH, WRONGPASS, LOADING).
func reason(err error) string {
	var answer redis.Error
	if errors.As(err, &answer) {
		word, _, _ := strings.Cut(answer.Error(), " ")
		return word
	}
	return "no answer"
}
