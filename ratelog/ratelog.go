// Package ratelog logs a fault that every request may meet, at most once a second. A disk that
// is full would otherwise fill what is left of it with lines about that.
package ratelog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// every is the time between two lines of one kind.
const every = time.Second

// A Line is one kind of log line. The first event is logged at once. Those of the second after it
// are logged together, when that second is over: the line has the attributes of the last one, and
// their number as the attribute "count". It is safe for concurrent use.
type Line struct {
	log     *slog.Logger
	level   slog.Level
	message string

	mu      sync.Mutex
	waiting bool  // a second has begun with the last line
	count   int   // of the events in that second
	last    []any // the attributes of the last of them
}

// New returns a kind of line.
func New(log *slog.Logger, level slog.Level, message string) *Line {
	return &Line{log: log, level: level, message: message}
}

// Log logs an event, now or within a second. The attributes are as those of slog.Logger.Log.
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

// begin writes a line, and begins the second after it. The caller holds l.mu.
func (l *Line) begin(attributes []any) {
	l.log.Log(context.Background(), l.level, l.message, attributes...)
	l.waiting, l.count, l.last = true, 0, nil
	time.AfterFunc(every, l.end)
}

// end is called when the second is over.
func (l *Line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == 0 {
		l.waiting = false
		return
	}
	l.begin(append(l.last[:len(l.last):len(l.last)], "count", l.count))
}
