package upstream

import "math/rand/v2"

// A candidate is a target that can be picked now.
type candidate struct {
	*target
	share int64 // in hundredths of a weight
	trial bool  // its ejection has run out; picking it makes the request a trial
}

// pickTarget picks a target other than exclude, which may be nil. It returns nil if there is
// none that is healthy and not drained. The request is in flight from then on: requestEnded
// must be called. If trial is true, so must recordOutcome.
func (p *Pool) pickTarget(exclude *target, user userKey) (t *target, trial bool) {
	for {
		if t, trial = p.chooseTarget(exclude, user); t == nil {
			return nil, false
		}
		t.inFlight.Add(1)
		// After the request was counted, so that a drained target on which none is counted
		// gets none.
		if !t.isOut() {
			return t, trial
		}
		if trial {
			t.onTrial.Store(false)
		}
		p.requestEnded(t)
	}
}

func (p *Pool) chooseTarget(exclude *target, user userKey) (t *target, trial bool) {
	for {
		var room [8]candidate // on the stack, except for large pools
		candidates := room[:0]
		now := p.now()
		for _, t := range p.targets {
			if t == exclude || t.unhealthy.Load() || t.isOut() {
				continue
			}
			if share, trial := t.shareAt(now); share > 0 {
				candidates = append(candidates, candidate{t, share, trial})
			}
		}
		if len(candidates) == 0 {
			return p.leastRecentlyEjected(exclude)
		}
		c := candidates[0]
		switch {
		case len(candidates) == 1:
		case user != 0:
			c = highestScore(candidates, user)
		case p.options.Balance == RoundRobin:
			c = p.roundRobin(candidates)
		default:
			c = leastInFlight(candidates)
		}
		if !c.trial {
			return c.target, false
		}
		if c.target.onTrial.CompareAndSwap(false, true) {
			if c.target.ejectedUntil.Load() != 0 {
				return c.target, true
			}
			c.target.onTrial.Store(false) // it was readmitted in the meantime
			return c.target, false
		}
		// Another request became the trial. Pick again, without this target.
	}
}

// leastInFlight draws two candidates by their shares and takes the one with fewer
// requests in flight relative to its share; if they are equal, the first.
//
// Each draw by itself has the right probability, and both hit the same target as rarely
// as possible. Imagine the shares laid out on a circle. A random point chooses the first
// candidate. The second lies opposite, with a random offset that is just small enough to
// leave the largest share if the first point was in it. Two equal targets are always both
// drawn, so the busier one is never taken. A canary of 5 % is in 10 % of the draws, and
// nothing can give it more.
func leastInFlight(candidates []candidate) candidate {
	var total, largest int64
	for _, c := range candidates {
		total += c.share
		largest = max(largest, c.share)
	}
	near, far := min(largest, total-largest), max(largest, total-largest)
	point := rand.Int64N(total)
	opposite := (point + near + rand.Int64N(far-near+1)) % total
	a, b := candidateAt(candidates, point), candidateAt(candidates, opposite)
	if b.inFlight.Load()*a.share < a.inFlight.Load()*b.share {
		return b
	}
	return a
}

// candidateAt returns the candidate in whose share the point lies, with the shares laid
// out in a row.
func candidateAt(candidates []candidate, point int64) candidate {
	for _, c := range candidates {
		if point -= c.share; point < 0 {
			return c
		}
	}
	return candidates[len(candidates)-1] // unreachable: point is less than the sum
}

// roundRobin is nginx's smooth weighted round robin: each candidate gains its share as
// credit; the one with the most credit is taken and pays the sum of all shares.
func (p *Pool) roundRobin(candidates []candidate) candidate {
	p.roundRobinMu.Lock()
	defer p.roundRobinMu.Unlock()
	var total int64
	best := candidates[0]
	for _, c := range candidates {
		total += c.share
		c.credit += c.share
		if c.credit > best.credit {
			best = c
		}
	}
	best.credit -= total
	return best
}

// leastRecentlyEjected is the last resort if all healthy targets are ejected: it returns
// the one whose ejection lies furthest back.
func (p *Pool) leastRecentlyEjected(exclude *target) (oldest *target, trial bool) {
	for _, t := range p.targets {
		if t == exclude || t.unhealthy.Load() || t.isOut() {
			continue
		}
		if oldest == nil || t.lastEjected.Load() < oldest.lastEjected.Load() {
			oldest = t
		}
	}
	if oldest == nil {
		return nil, false
	}
	return oldest, oldest.ejectedUntil.Load() != 0 && oldest.onTrial.CompareAndSwap(false, true)
}
