package embedded

import (
	"context"
	"fmt"
	"log/slog"
)

// natsLog is a nats-server logger on top of slog, and catches the server's last
// words. Without a logger it only does the latter.
type natsLog struct {
	log   *slog.Logger
	fatal chan error
}

func (l *natsLog) write(level slog.Level, format string, v []any) {
	if l.log != nil && l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats-server", "message", fmt.Sprintf(format, v...))
	}
}

func (l *natsLog) Noticef(format string, v ...any) { l.write(slog.LevelInfo, format, v) }
func (l *natsLog) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *natsLog) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *natsLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *natsLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }

// Fatalf must not end the process, which is not the server's.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default: // the first reason is the one that counts
	}
}
