package quota

import (
	"fmt"
	"time"
)

// Bounds of a ConcurrencyLimit.
const (
	MaxConcurrent     = 1_000_000
	MaxConcurrentWait = 30 * time.Second
)

// PlaceLease is how long the place of a running request stays taken after its gateway has died.
const PlaceLease = 30 * time.Second

// ConcurrencyName stands for the plan's ConcurrencyLimit among the names of limits. No limit
// has this name.
const ConcurrencyName = "concurrent"

// A ConcurrencyLimit bounds the requests of one user that run at once, on all gateways
// together. Each of them has a place from its reservation until its response has ended. The
// zero value is no bound.
type ConcurrencyLimit struct {
	Requests int64 // 1 to MaxConcurrent; 0: no bound
	// Wait is how long a request waits for a place, or for units that running requests hold,
	// before it is refused: 0 to MaxConcurrentWait.
	Wait time.Duration
}

func (c ConcurrencyLimit) validate() error {
	switch {
	case c.Requests == 0 && c.Wait == 0:
		return nil
	case c.Requests < 1 || c.Requests > MaxConcurrent:
		return fmt.Errorf("requests must be 1 to %d, got %d", MaxConcurrent, c.Requests)
	case c.Wait < 0 || c.Wait > MaxConcurrentWait:
		return fmt.Errorf("wait must be 0 to %v, got %v", MaxConcurrentWait, c.Wait)
	}
	return nil
}
