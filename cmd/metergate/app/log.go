package app

import (
	"io"
	"log/slog"

	"metergate/config"
	"metergate/proxy/jsonlog"
)

// NewLog returns a log that writes to w, and its level, which can be changed.
func NewLog(cfg config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), level
	}
	return slog.New(jsonlog.New(w, level)), level
}
