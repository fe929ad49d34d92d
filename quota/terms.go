package quota

import "time"

// Terms are the plans that may apply to a user. Which one does only the store can
// say, which knows whether an administrator has chosen another one.
type Terms struct {
	// Claimed is the plan of the user's token, or the default. Never nil.
	Claimed *Plan
	// Named are the plans that an Override can name. They must not change. nil: none.
	Named map[string]*Plan
}

// Terms are those of a user of p, whom no administrator has given another plan.
func (p *Plan) Terms() Terms { return Terms{Claimed: p} }

// Plan is the plan that applies under o. When o names none that there is, because
// the configuration has changed say, it is the claimed one.
func (t Terms) Plan(o Override) *Plan {
	if p := t.Named[o.Plan]; p != nil && o.Plan != "" {
		return p
	}
	return t.Claimed
}

// Over are the same plans for a look at windows of one kind, see Plan.Over.
func (t Terms) Over(per Per) Terms {
	over := Terms{Claimed: t.Claimed.Over(per), Named: make(map[string]*Plan, len(t.Named))}
	for name, p := range t.Named {
		over.Named[name] = p.Over(per)
	}
	return over
}

// An Override is the plan that an administrator has chosen for a user, instead of the
// token's. The zero value is none.
type Override struct {
	Plan  string    // its name in the configuration
	Until time.Time // to the millisecond; from then on it is none; zero: it has no end
}

// At is o at an instant: none after its end.
func (o Override) At(t time.Time) Override {
	if !o.Until.IsZero() && !t.Before(o.Until) {
		return Override{}
	}
	return o
}
