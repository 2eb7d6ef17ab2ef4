package redisconn

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
)

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, wait, f)
}

func TestWaitUntilRedisIsUp(t *testing.T) {
	t.Parallel()
	srv := miniredis.NewMiniRedis()
	addr := embedded.TestAddr(t)
	c := open(t, "redis://"+addr)

	var out embedded.Lines
	log := out.Logger(slog.LevelInfo)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Wait(ctx, c, log) }()
	eventually(t, "says that it waits, and why", func() bool { return out.Count("refused") == 1 })

	if err := srv.StartAddr(addr); err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	srv.SetError("LOADING Redis is loading the dataset in memory")
	eventually(t, "says that the reason is another one", func() bool { return out.Count("LOADING") == 1 })
	srv.SetError("")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if out.Count("waiting for redis") != 2 || out.Count("redis is up") != 1 {
		t.Errorf("log:\n%s", out.String())
	}
	if err := Wait(ctx, c, log); err != nil || out.Count("\n") != 3 {
		t.Errorf("waiting for a Redis that is up: %v, log:\n%s", err, out.String())
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	c := open(t, "redis://"+embedded.TestAddr(t))
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // several pings
	defer cancel()
	var out embedded.Lines
	err := Wait(ctx, c, out.Logger(slog.LevelInfo))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if out.Count("waiting for redis") > 1 {
		t.Errorf("more than one line:\n%s", out.String())
	}
	_ = c.Close()
	if err := Wait(t.Context(), c, slog.New(slog.DiscardHandler)); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("closed client: %v", err)
	}
}
