package upstream

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Draining.
//
// A drained target gets no new requests: no trials, and none when the health checks find it
// healthy again. Those that run on it end by themselves. Status.InFlight says how many are left.
//
// A drain belongs to the target, not to the pool: the pools before and after a reload share it.
// So a late request to a pool that is already retired does not reach the target either.

// Errors of Drain and Undrain.
var (
	// ErrUnknownTarget means that the pool has no target with this URL that gets requests.
	ErrUnknownTarget = errors.New("there is no such target")
	// ErrLastTarget means that no other target is healthy, not ejected and not drained.
	ErrLastTarget = errors.New("no other target could serve")
)

// A Drain says when, by whom and why a target was drained.
type Drain struct {
	Since        time.Time
	From, Reason string // both for people
}

// A drain is a Drain that is in force.
type drain struct {
	Drain
	ended atomic.Bool // the log says that no request is left
}

// isOut reports whether a target gets no requests, however healthy it is.
func (t *target) isOut() bool { return t.weight == 0 || t.drain.Load() != nil }

// Drain keeps new requests from the target with this URL until Undrain, or until a reload
// in which the target is gone. It returns false if the target is drained already; then
// nothing changes. Error: ErrUnknownTarget, ErrLastTarget.
func (p *Pool) Drain(url string, d Drain) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targetByURL(url)
	switch {
	case t == nil:
		return false, ErrUnknownTarget
	case t.drain.Load() != nil:
		return false, nil
	case !p.hasAlternative(t):
		return false, ErrLastTarget
	}
	now := &drain{Drain: d}
	t.drain.Store(now)
	left := t.inFlight.Load()
	now.ended.Store(left == 0)
	p.options.Log.Info("target drained", "target", t.name, "from", d.From, "reason", d.Reason, "in_flight", left)
	return true, nil
}

// Undrain ends a drain. The target comes back with slow start. It returns false if the
// target is not drained. Error: ErrUnknownTarget.
func (p *Pool) Undrain(url string, d Drain) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targetByURL(url)
	switch {
	case t == nil:
		return false, ErrUnknownTarget
	case t.drain.Load() == nil:
		return false, nil
	}
	t.slowStartSince.Store(p.now())
	t.drain.Store(nil)
	p.options.Log.Info("target undrained", "target", t.name, "from", d.From, "reason", d.Reason)
	return true, nil
}

// targetByURL returns nil if there is none.
func (p *Pool) targetByURL(url string) *target {
	for _, t := range p.targets {
		if t.name == url && t.weight > 0 {
			return t
		}
	}
	return nil
}

// endDrainsIfAll ends the drains of a new pool if they were taken over for all of its
// targets: the configuration does not have those any more that served instead.
func (p *Pool) endDrainsIfAll() {
	for _, t := range p.targets {
		if !t.isOut() {
			return
		}
	}
	for _, t := range p.targets {
		if t.drain.Swap(nil) != nil {
			p.options.Log.Warn("target undrained, because the configuration has no other target any more", "target", t.name)
		}
	}
}

// requestEnded logs when the last request on a drained target has ended.
func (d *drain) requestEnded(log *slog.Logger, target string) {
	if !d.ended.Swap(true) {
		log.Info("drained target has no requests left", "target", target)
	}
}
