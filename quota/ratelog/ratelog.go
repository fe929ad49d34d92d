// Package ratelog logs a fault that every request may meet, once in a while and not each time. A
// disk that is full would otherwise fill what is left of it with lines about that.
package ratelog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A Line is one kind of log line. The first event is logged at once. Those of the time after it,
// such as a second, are logged together when that time is over: the line has the attributes of the
// last one, and their number as the attribute "count". It is safe for concurrent use.
type Line struct {
	log     *slog.Logger
	level   slog.Level
	every   time.Duration
	message string

	mu      sync.Mutex
	waiting bool  // a line was written less than every ago
	count   int   // of the events since then
	last    []any // the attributes of the last of them
}

// New returns a kind of line, of which at most one is written in a second.
func New(log *slog.Logger, level slog.Level, message string) *Line {
	return NewEvery(log, level, time.Second, message)
}

// NewEvery returns a kind of line, of which at most one is written in a time.
func NewEvery(log *slog.Logger, level slog.Level, every time.Duration, message string) *Line {
	return &Line{log: log, level: level, every: every, message: message}
}

// Log logs an event, now or when the time is over. The attributes are as those of slog.Logger.Log.
func (l *Line) Log(attributes ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting {
		l.count++
		l.last = attributes
		return
	}
	l.begin(attributes)
}

// begin writes a line, and begins the time after it. The caller holds l.mu.
func (l *Line) begin(attributes []any) {
	l.log.Log(context.Background(), l.level, l.message, attributes...)
	l.waiting, l.count, l.last = true, 0, nil
	time.AfterFunc(l.every, l.end)
}

// end is called when the time is over.
func (l *Line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == 0 {
		l.waiting = false
		return
	}
	l.begin(append(l.last[:len(l.last):len(l.last)], "count", l.count))
}
