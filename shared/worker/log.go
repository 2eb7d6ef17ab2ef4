package worker

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Log is the group of settings LOG_LEVEL and LOG_FORMAT.
type Log struct {
	Level  string `default:"info" desc:"debug, info, warn or error"`
	Format string `default:"text" desc:"text or json"`
}

// Logger writes to w as the settings say. The error names the setting.
func (l Log) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("LOG_LEVEL=%q: want debug, info, warn or error", l.Level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(l.Format) {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("LOG_FORMAT=%q: want text or json", l.Format)
}
