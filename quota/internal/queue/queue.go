// Package queue lets one goroutine do together what many have asked for: what
// comes while it is at work waits for its next turn, and a lone item is taken at
// once.
package queue

import "sync"

// A Queue holds what waits. The zero value is empty and ready. It is safe for
// concurrent use, with one goroutine that takes.
type Queue[T any] struct {
	mu     sync.Mutex
	more   *sync.Cond // on mu; nil until somebody has waited
	items  []T
	closed bool
}

// Add adds an item. False: the queue is closed, and the item was not added.
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

// TakeAll waits for items and returns all there are, in their order; none: the queue
// is closed and empty.
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

// Close ends the queue once what it holds is taken.
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
