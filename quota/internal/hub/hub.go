// Package hub notifies watchers of a user when something about the user has changed.
package hub

import "sync"

// A Hub has watchers by key. The zero value is ready and has none. It is safe for concurrent
// use.
type Hub struct {
	mu       sync.RWMutex
	watchers map[string]map[chan<- struct{}]struct{}
}

// Watch sends to ch, without blocking, whenever Notify is called for key, until stop is
// called. A ch of capacity 1 misses nothing: an unread value says that there is something
// new. first reports whether key had no watcher before. When the last watcher of key stops,
// onLast is called with the hub locked; it may be nil.
func (h *Hub) Watch(key string, ch chan<- struct{}, onLast func()) (stop func(), first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[string]map[chan<- struct{}]struct{})
	}
	if first = h.watchers[key] == nil; first {
		h.watchers[key] = make(map[chan<- struct{}]struct{})
	}
	h.watchers[key][ch] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if delete(h.watchers[key], ch); len(h.watchers[key]) == 0 && h.watchers[key] != nil {
			delete(h.watchers, key)
			if onLast != nil {
				onLast()
			}
		}
	}, first
}

// Notify notifies the watchers of key.
func (h *Hub) Notify(key string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for ch := range h.watchers[key] {
		wake(ch)
	}
}

// NotifyAll notifies all watchers.
func (h *Hub) NotifyAll() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, watchers := range h.watchers {
		for ch := range watchers {
			wake(ch)
		}
	}
}

// wake sends to ch unless that would block.
func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
