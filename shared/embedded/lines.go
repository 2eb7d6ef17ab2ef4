package embedded

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// Lines is a log, or what a program prints, that a test can read while it is written.
// The zero value is empty.
type Lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write never fails.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was written.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Count tells how often the text is in it.
func (l *Lines) Count(text string) int { return strings.Count(l.String(), text) }

// Logger writes to it, from the level on.
func (l *Lines) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}
