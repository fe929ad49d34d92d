package upstream

import "time"

// Passive ejection and slow start.
//
// A target that fails several requests in a row is ejected: it gets none for a while.
// Then one request at a time is a trial. A response readmits the target; a failure
// ejects it again, for twice as long. A trial that cannot connect costs its client
// nothing, because it is retried on another target.
//
//	3 failures    ejected for 10 s
//	+10 s         trial fails       ejected for 20 s
//	+20 s         trial succeeds    back with 10 % of its share
//	+10 s                           back with all of it
//
// The last target is never ejected: there must be another that is healthy, not drained and
// not ejected. If the health checks then take out that other one, pickTarget picks the target
// that was ejected least recently.

const (
	// slowStart is how long a target's share grows after it came back, from
	// slowStartShare percent to its full share.
	slowStart      = 10 * time.Second
	slowStartShare = 10
	// maxDoublings bounds how often the length of an ejection is doubled.
	maxDoublings = 3
)

// An outcome is what a request says about its target.
type outcome int

const (
	outcomeUnknown         outcome = iota // the client went away, or its body failed
	outcomeResponse                       // a response with a status below 500
	outcomeServerError                    // a 5xx response, or a malformed one
	outcomeConnectionError                // no connection, or no response on it
)

// shareAt returns the target's share at a moment, in hundredths of a weight, and whether
// a request to it would be a trial. A share of 0 means that it gets nothing.
func (t *target) shareAt(now moment) (share int64, trial bool) {
	if until := t.ejectedUntil.Load(); until != 0 {
		if now < until || t.onTrial.Load() {
			return 0, false
		}
		return t.weight * 100, true
	}
	back := t.slowStartSince.Load()
	if back == 0 {
		return t.weight * 100, false
	}
	if now-back >= int64(slowStart) {
		t.slowStartSince.CompareAndSwap(back, 0)
		return t.weight * 100, false
	}
	return t.weight * (slowStartShare + (100-slowStartShare)*(now-back)/int64(slowStart)), false
}

// recordOutcome takes note of how a request went; trial is pickTarget's.
func (p *Pool) recordOutcome(t *target, trial bool, how outcome) {
	e := p.options.Ejection
	failed := false
	switch how {
	case outcomeResponse:
		resetRun(&t.connectionErrors)
		resetRun(&t.serverErrors)
	case outcomeServerError:
		resetRun(&t.connectionErrors)
		if e.ServerErrors > 0 {
			failed = t.serverErrors.Add(1) >= int64(e.ServerErrors) || trial
		}
	case outcomeConnectionError:
		failed = t.connectionErrors.Add(1) >= int64(e.ConnectionErrors) || trial
	}
	switch {
	case failed:
		p.eject(t, trial)
	case trial && how != outcomeUnknown:
		p.readmit(t)
	case trial:
		t.onTrial.Store(false) // the next request may be the trial
	}
}

// resetRun sets a counter of failures in a row to zero. It usually is zero already, and
// then a read is cheaper than a write for processors that share the cache line.
func resetRun(run interface {
	Load() int64
	Store(int64)
}) {
	if run.Load() != 0 {
		run.Store(0)
	}
}

// eject takes a target out for a while; after a failed trial for longer.
func (p *Pool) eject(t *target, trial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	trial = trial && t.ejectedUntil.Load() != 0 // otherwise it was readmitted in the meantime
	// Without a trial this is a late result of a target that is already ejected.
	if !trial && (t.ejectedUntil.Load() != 0 || !p.hasAlternative(t)) {
		return
	}
	now, base := p.now(), p.options.Ejection.For
	if trial || t.lastReadmitted != 0 && now-t.lastReadmitted < int64(base)<<maxDoublings {
		t.doublings = min(t.doublings+1, maxDoublings)
	} else {
		t.doublings = 0
	}
	length := base << t.doublings
	t.lastEjected.Store(now)
	t.ejectedUntil.Store(now + int64(length))
	t.connectionErrors.Store(0)
	t.serverErrors.Store(0)
	t.onTrial.Store(false)
	p.options.Log.Warn("target ejected", "target", t.name, "for", length)
}

// hasAlternative reports whether a target other than t is healthy, not ejected and not drained.
func (p *Pool) hasAlternative(t *target) bool {
	for _, other := range p.targets {
		if other != t && !other.unhealthy.Load() && other.ejectedUntil.Load() == 0 && !other.isOut() {
			return true
		}
	}
	return false
}

// readmit ends an ejection after a successful trial.
func (p *Pool) readmit(t *target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.lastReadmitted = p.now()
	t.slowStartSince.Store(t.lastReadmitted)
	t.ejectedUntil.Store(0)
	t.onTrial.Store(false)
	p.options.Log.Info("target is back", "target", t.name)
}
