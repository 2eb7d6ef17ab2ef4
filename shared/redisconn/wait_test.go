package redisconn

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"sluice/shared/embedded"
)

// lines is a log that tests can read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, wait, f)
}

func TestWaitUntilRedisIsUp(t *testing.T) {
	srv := miniredis.NewMiniRedis()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c := open(t, "redis://"+srv.Addr())
	srv.Close() // keeps its port for Restart

	var out lines
	log := slog.New(slog.NewTextHandler(&out, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Wait(ctx, c, log) }()
	eventually(t, "says that it waits, and why", func() bool { return out.count("refused") == 1 })

	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	srv.SetError("LOADING Redis is loading the dataset in memory")
	eventually(t, "says that the reason is another one", func() bool { return out.count("LOADING") == 1 })
	srv.SetError("")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if out.count("waiting for redis") != 2 || out.count("redis is up") != 1 {
		t.Errorf("log:\n%s", out.buf.String())
	}
	if err := Wait(ctx, c, log); err != nil || out.count("\n") != 3 {
		t.Errorf("waiting for a Redis that is up: %v, log:\n%s", err, out.buf.String())
	}
}

func TestWaitEnds(t *testing.T) {
	srv := miniredis.RunT(t)
	c := open(t, "redis://"+srv.Addr())
	srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // several pings
	defer cancel()
	var out lines
	err := Wait(ctx, c, slog.New(slog.NewTextHandler(&out, nil)))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if out.count("waiting for redis") > 1 {
		t.Errorf("more than one line:\n%s", out.buf.String())
	}
	_ = c.Close()
	if err := Wait(t.Context(), c, slog.New(slog.DiscardHandler)); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("closed client: %v", err)
	}
}
