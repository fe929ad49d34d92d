// Package hub tells those who watch a user that something about him has changed.
package hub

import "sync"

// A Hub has the watchers, by key. The zero value has none and is ready. It is safe
// for concurrent use.
type Hub struct {
	mu       sync.RWMutex
	watchers map[string]map[chan<- struct{}]struct{}
}

// Watch sends to ch whenever key has changed, without waiting: a ch of capacity 1
// misses nothing, since what it holds says that there is something new. stop ends
// it. first reports whether nobody has watched key before; last, called with the
// hub locked, that nobody does any more. It may be nil.
func (h *Hub) Watch(key string, ch chan<- struct{}, last func()) (stop func(), first bool) {
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
			if last != nil {
				last()
			}
		}
	}, first
}

// Notify tells who watches key.
func (h *Hub) Notify(key string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for ch := range h.watchers[key] {
		wake(ch)
	}
}

// NotifyAll tells everybody.
func (h *Hub) NotifyAll() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, watchers := range h.watchers {
		for ch := range watchers {
			wake(ch)
		}
	}
}

func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
