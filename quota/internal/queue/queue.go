// Package queue lets one goroutine handle the work of many in batches. Items that arrive
// while it is busy wait for its next turn; a single item is taken at once.
package queue

import "sync"

// A Queue holds the items that wait. The zero value is empty and ready. It is safe for
// concurrent use, with one goroutine that takes.
type Queue[T any] struct {
	mu     sync.Mutex
	more   *sync.Cond // uses mu; nil until TakeAll has been called
	items  []T
	closed bool
}

// Add adds an item. It returns false, and does not add it, if the queue is closed.
func (q *Queue[T]) Add(item T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.items = append(q.items, item)
	q.signal()
	return true
}

// TakeAll waits for items and returns all of them, in their order. It returns none once the
// queue is closed and empty.
func (q *Queue[T]) TakeAll() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.more == nil {
		q.more = sync.NewCond(&q.mu)
	}
	for len(q.items) == 0 && !q.closed {
		q.more.Wait()
	}
	items := q.items
	q.items = nil
	return items
}

// Close ends the queue: nothing can be added any more, and TakeAll returns what is left.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

func (q *Queue[T]) signal() {
	if q.more != nil {
		q.more.Signal()
	}
}
