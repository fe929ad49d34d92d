// Package turns lines up those who wait for the same thing. Each is told when they are the first
// of their line.
package turns

import (
	"sync"
	"sync/atomic"
)

// Lines are lines of those who wait, by a key. The zero value has no lines. It is safe for
// concurrent use.
type Lines struct {
	waiting atomic.Int64
	mu      sync.Mutex
	byKey   map[string][]*Turn // in order of arrival; none is empty
}

// A Turn is a place in a line.
type Turn struct {
	lines *Lines
	key   string
	first chan struct{} // closed when nobody is before it
}

// Waiting is how many wait, in all lines.
func (l *Lines) Waiting() int64 { return l.waiting.Load() }

// Has reports whether somebody waits in the line of a key.
func (l *Lines) Has(key string) bool {
	if l.waiting.Load() == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byKey[key]) > 0
}

// Join goes to the end of a line. The caller must call Leave.
func (l *Lines) Join(key string) *Turn {
	t := &Turn{l, key, make(chan struct{})}
	l.waiting.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[string][]*Turn{}
	}
	l.byKey[key] = append(l.byKey[key], t)
	if len(l.byKey[key]) == 1 {
		close(t.first)
	}
	return t
}

// First is closed when nobody is before t any more.
func (t *Turn) First() <-chan struct{} { return t.first }

// Leave leaves the line. It must be called once.
func (t *Turn) Leave() {
	l := t.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting.Add(-1)
	line := l.byKey[t.key]
	for i, other := range line {
		if other != t {
			continue
		}
		line = append(line[:i:i], line[i+1:]...)
		if len(line) == 0 {
			delete(l.byKey, t.key)
			return
		}
		l.byKey[t.key] = line
		if i == 0 {
			close(line[0].first)
		}
		return
	}
}
