package upstream

import "math/rand/v2"

// A choice is a target that can be picked now.
type choice struct {
	*target
	share int64 // in hundredths of a weight
	trial bool  // an ejection has ended; picking it is a trial
}

// pick chooses a target other than not, which may be nil. It returns nil when the
// checks find none healthy. A trial's outcome has to be reported, see judge.
func (p *Pool) pick(not *target) (t *target, trial bool) {
	for {
		var room [8]choice // on the stack, for all but large pools
		choices := room[:0]
		now := p.now()
		for _, t := range p.targets {
			if t == not || t.down.Load() {
				continue
			}
			if share, trial := t.share(now); share > 0 {
				choices = append(choices, choice{t, share, trial})
			}
		}
		if len(choices) == 0 {
			return p.longestEjected(not)
		}
		c := choices[0]
		switch {
		case len(choices) == 1:
		case p.options.Balance == RoundRobin:
			c = p.roundRobin(choices)
		default:
			c = leastInFlight(choices)
		}
		if !c.trial {
			return c.target, false
		}
		if c.target.trial.CompareAndSwap(false, true) {
			if c.target.until.Load() != 0 {
				return c.target, true
			}
			c.target.trial.Store(false) // it came back meanwhile
			return c.target, false
		}
		// Another request is the trial. Choose again, without this one.
	}
}

// leastInFlight draws two of several choices by their shares and takes the one with
// fewer requests in flight for its share; of two alike, the first.
//
// The two are drawn so that each alone has the right chances, and that they are the
// same as seldom as can be. Lay the shares out on a circle: the first choice is
// where a random point lies, the second lies opposite, give or take as much as still
// keeps it out of the largest share when it started there. Two equal targets are
// always both drawn, so the busy one is never taken; a canary of 5 % is drawn first
// or second in 10 % of the draws, and nothing can give it more.
func leastInFlight(choices []choice) choice {
	var total, largest int64
	for _, c := range choices {
		total += c.share
		largest = max(largest, c.share)
	}
	near, far := min(largest, total-largest), max(largest, total-largest)
	point := rand.Int64N(total)
	opposite := (point + near + rand.Int64N(far-near+1)) % total
	a, b := at(choices, point), at(choices, opposite)
	if b.inFlight.Load()*a.share < a.inFlight.Load()*b.share {
		return b
	}
	return a
}

// at is the choice in whose share a point lies, when they are laid out in a row.
func at(choices []choice, point int64) choice {
	for _, c := range choices {
		if point -= c.share; point < 0 {
			return c
		}
	}
	return choices[len(choices)-1] // not reached: point is less than the sum
}

// roundRobin is nginx's smooth weighted round robin: each gains its share, the
// richest is taken and pays for all.
func (p *Pool) roundRobin(choices []choice) choice {
	p.turn.Lock()
	defer p.turn.Unlock()
	var total int64
	best := choices[0]
	for _, c := range choices {
		total += c.share
		c.current += c.share
		if c.current > best.current {
			best = c
		}
	}
	best.current -= total
	return best
}

// longestEjected is the last resort: of the targets that the checks do not find
// unhealthy, the one that was ejected before all others.
func (p *Pool) longestEjected(not *target) (oldest *target, trial bool) {
	for _, t := range p.targets {
		if t == not || t.down.Load() {
			continue
		}
		if oldest == nil || t.ejected.Load() < oldest.ejected.Load() {
			oldest = t
		}
	}
	if oldest == nil {
		return nil, false
	}
	return oldest, oldest.until.Load() != 0 && oldest.trial.CompareAndSwap(false, true)
}
