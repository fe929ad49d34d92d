package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// cleanups are what has to be done to stop everything that was started. The zero value
// is an empty list.
type cleanups struct {
	mu   sync.Mutex
	list []cleanup
}

// A cleanup stops one thing. It must return when the context ends.
type cleanup struct {
	name string // of what it stops, for errors
	run  func(context.Context) error
}

// add registers a clean-up. It belongs right behind the line that started the thing.
func (c *cleanups) add(name string, run func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, cleanup{name, run})
}

// run runs the clean-ups, last in first out, and empties the list. All of them run,
// also when some fail or the context has ended; the errors are joined.
func (c *cleanups) run(ctx context.Context) error {
	c.mu.Lock()
	list := c.list
	c.list = nil
	c.mu.Unlock()
	var errs []error
	for _, cleanup := range slices.Backward(list) {
		if err := cleanup.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping the %s: %w", cleanup.name, err))
		}
	}
	return errors.Join(errs...)
}
