package upstream

import "time"

// Passive ejection.
//
// A target that fails several requests in a row is ejected: it gets none for a
// while. After that it is tried with one request at a time, and what becomes of it
// decides: a response brings the target back, a failure ejects it again, for twice
// as long. A request on trial that finds nobody costs its client nothing, for it
// goes on to another target.
//
//	3 failures    ejected for 10 s
//	+10 s         trial fails       ejected for 20 s
//	+20 s         trial succeeds    back with 10 % of its share
//	+10 s                           back with all of it
//
// The last target is never ejected: a target is only as long as there is another
// that is healthy and not ejected. If it is the checks that take that other one
// out, pick takes the one that was ejected longest ago.

const (
	// slowReturn is how long a target's share grows after it came back, from
	// firstShare percent to all.
	slowReturn = 10 * time.Second
	firstShare = 10
	// maxRepeats bounds how often an ejection is doubled.
	maxRepeats = 3
)

// An outcome is what a request says of its target.
type outcome int

const (
	nothing     outcome = iota // the client went, or its body failed
	good                       // a response
	serverError                // one of status 5xx
	broken                     // no connection, or no response on it
)

// share is a target's share now, in hundredths of a weight, and whether it would be
// a trial. 0: it gets nothing.
func (t *target) share(now moment) (share int64, trial bool) {
	if until := t.until.Load(); until != 0 {
		if now < until || t.trial.Load() {
			return 0, false
		}
		return t.weight * 100, true
	}
	back := t.back.Load()
	if back == 0 {
		return t.weight * 100, false
	}
	if now-back >= int64(slowReturn) {
		t.back.CompareAndSwap(back, 0)
		return t.weight * 100, false
	}
	return t.weight * (firstShare + (100-firstShare)*(now-back)/int64(slowReturn)), false
}

// judge takes note of how a request went. trial is what pick said.
func (p *Pool) judge(t *target, trial bool, how outcome) {
	e := p.options.Ejection
	failed := false
	switch how {
	case good:
		clearRun(&t.failures)
		clearRun(&t.serverErrors)
	case serverError:
		clearRun(&t.failures)
		if e.ServerErrors > 0 {
			failed = t.serverErrors.Add(1) >= int64(e.ServerErrors) || trial
		}
	case broken:
		failed = t.failures.Add(1) >= int64(e.ConnectionErrors) || trial
	}
	switch {
	case failed:
		p.eject(t, trial)
	case trial && how != nothing:
		p.readmit(t)
	case trial:
		t.trial.Store(false) // the next one may try
	}
}

// clearRun ends a run. Most often there is none, and a read is cheaper for
// processors that share the number.
func clearRun(run interface {
	Load() int64
	Store(int64)
}) {
	if run.Load() != 0 {
		run.Store(0)
	}
}

// eject gives a target no requests for a while, or for a longer one after a trial.
func (p *Pool) eject(t *target, trial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	trial = trial && t.until.Load() != 0 // else it came back meanwhile
	// Without a trial it is late news of a target that is ejected already.
	if !trial && (t.until.Load() != 0 || !p.another(t)) {
		return
	}
	now, base := p.now(), p.options.Ejection.For
	if trial || t.readmitted != 0 && now-t.readmitted < int64(base)<<maxRepeats {
		t.repeats = min(t.repeats+1, maxRepeats)
	} else {
		t.repeats = 0
	}
	length := base << t.repeats
	t.ejected.Store(now)
	t.until.Store(now + int64(length))
	t.failures.Store(0)
	t.serverErrors.Store(0)
	t.trial.Store(false)
	p.options.Log.Warn("target ejected", "target", t.name, "for", length)
}

// another reports whether a target other than t is healthy and not ejected.
func (p *Pool) another(t *target) bool {
	for _, other := range p.targets {
		if other != t && !other.down.Load() && other.until.Load() == 0 {
			return true
		}
	}
	return false
}

// readmit ends an ejection after a trial that succeeded.
func (p *Pool) readmit(t *target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.readmitted = p.now()
	t.back.Store(t.readmitted)
	t.until.Store(0)
	t.trial.Store(false)
	p.options.Log.Info("target is back", "target", t.name)
}
