package redisconn

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// go-redis has one logger for the whole process, which writes a line of its own
// format to stderr for every connection that cannot be dialled. Each such error
// is also returned to whoever asked, so here it goes to debug. In an init,
// because go-redis reads the variable without a lock.
func init() { redis.SetLogger(debugLog{}) }

type debugLog struct{}

func (debugLog) Printf(ctx context.Context, format string, v ...any) {
	if log := slog.Default(); log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "go-redis", "message", fmt.Sprintf(format, v...))
	}
}
