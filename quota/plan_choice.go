package quota

import "time"

// A PlanChoice is the plans that may apply to a user. Which one does only the store can
// say, which knows whether an administrator has chosen another one.
type PlanChoice struct {
	// Claimed is the plan of the user's token, or the default. Never nil.
	Claimed *Plan
	// ByName are the plans that an Override can name. They must not change. nil: none.
	ByName map[string]*Plan
}

// OnlyChoice is that of a user of p, whom no administrator has given another plan.
func (p *Plan) OnlyChoice() PlanChoice { return PlanChoice{Claimed: p} }

// Effective is the plan that applies under o. When o names none that there is, because
// the configuration has changed say, it is the claimed one.
func (t PlanChoice) Effective(o Override) *Plan {
	if p := t.ByName[o.Plan]; p != nil && o.Plan != "" {
		return p
	}
	return t.Claimed
}

// ForPeriod are the same plans for a look at windows of one kind, see Plan.ForPeriod.
func (t PlanChoice) ForPeriod(per Period) PlanChoice {
	over := PlanChoice{Claimed: t.Claimed.ForPeriod(per), ByName: make(map[string]*Plan, len(t.ByName))}
	for name, p := range t.ByName {
		over.ByName[name] = p.ForPeriod(per)
	}
	return over
}

// An Override is the plan that an administrator has chosen for a user, instead of the
// token's. The zero value is none.
type Override struct {
	Plan  string    // its name in the configuration
	Until time.Time // to the millisecond; from then on it is none; zero: it has no end
}

// ActiveAt is o at an instant: none after its end.
func (o Override) ActiveAt(t time.Time) Override {
	if !o.Until.IsZero() && !t.Before(o.Until) {
		return Override{}
	}
	return o
}
