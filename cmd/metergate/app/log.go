package app

import (
	"io"
	"log/slog"
	"os"

	"metergate/config"
	"metergate/proxy/jsonlog"
	"metergate/quota/blocking"
)

// NewLog returns a log that writes to w, and its level, which can be changed. Lines of requests may be written a moment
// later: flush returns when all of them are. Whoever ends the process calls it.
func NewLog(cfg config.Log, w io.Writer) (log *slog.Logger, level *slog.LevelVar, flush func()) {
	if file, ok := w.(*os.File); ok {
		w = logFile{file}
	}
	level = new(slog.LevelVar)
	level.Set(cfg.Level)
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), level, func() {}
	}
	log = slog.New(jsonlog.New(w, level))
	return log, level, func() { jsonlog.Flush(log) }
}

// A logFile is written as a file that may block: a pipe that nobody reads, a slow disk.
type logFile struct{ file *os.File }

func (f logFile) Write(p []byte) (int, error) { return blocking.Write(f.file, p) }
