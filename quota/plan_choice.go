package quota

import "time"

// A PlanChoice has the plans that may apply to a user. Only the store can tell which one
// does, because it knows the user's Override.
type PlanChoice struct {
	// Claimed is the plan that the user's token claims, or the default plan. Never nil.
	Claimed *Plan
	// ByName has the plans that an Override can name. It must not change after it is
	// handed to a store. nil: overrides have no effect.
	ByName map[string]*Plan
	// Scope is that of the account: which limits of the plans apply to it.
	Scope Scope
	// Anchor is the one that the user's token claims, for plans with ClaimAnchor. nil: there is no
	// token, as where an administrator asks. Then the anchor that the account has stays.
	Anchor *Anchor
	// NoAnchor says that the token claims none: Anchor is that of the calendar. It is not the first
	// one that a pool is given.
	NoAnchor bool
	// Terms says that stores look at the Terms of accounts: one of the plans has, or has had, an
	// anchor or a limit that carries. False: the calendar holds, and nothing is carried.
	Terms bool
}

// OnlyChoice is the choice of a user whose plan nobody can override: p applies.
func (p *Plan) OnlyChoice() PlanChoice { return PlanChoice{Claimed: p} }

// Effective is the plan that applies under an override, as it is for the Scope. It is the claimed
// plan when the override is zero, or names a plan that does not exist (any more). That of a member
// is their own or, if they have none, the one of their organisation's pool.
func (c PlanChoice) Effective(o Override) *Plan {
	if p := c.ByName[o.Plan]; p != nil && o.Plan != "" {
		return p.ForScope(c.Scope)
	}
	return c.Claimed.ForScope(c.Scope)
}

// Notifies reports whether a plan that may apply has thresholds, see Plan.NotifyAt. It does not if the
// plans are not known.
func (c PlanChoice) Notifies() bool {
	if c.Claimed == nil {
		return false
	}
	if len(c.Claimed.notifyAt) > 0 {
		return true
	}
	for _, p := range c.ByName {
		if len(p.notifyAt) > 0 {
			return true
		}
	}
	return false
}

// anyAnchor reports whether p or another plan that may apply to somebody has an AnchorMode.
func (c PlanChoice) anyAnchor(p *Plan, mode AnchorMode) bool {
	if p.anchor == mode {
		return true
	}
	for _, other := range c.ByName {
		if other.anchor == mode {
			return true
		}
	}
	return false
}

// ForPeriod is the same choice for reading windows of one period, see Plan.ForPeriod.
func (c PlanChoice) ForPeriod(period Period) PlanChoice {
	narrowed := PlanChoice{Claimed: c.Claimed.ForPeriod(period), ByName: make(map[string]*Plan, len(c.ByName)), Scope: c.Scope, Anchor: c.Anchor, NoAnchor: c.NoAnchor, Terms: c.Terms}
	for name, p := range c.ByName {
		narrowed.ByName[name] = p.ForPeriod(period)
	}
	return narrowed
}

// An Override is the plan that an administrator has set for a user, in place of the one
// that the token claims. The zero value is no override.
type Override struct {
	Plan  string    // the plan's name in the configuration
	Until time.Time // when it ends, to the millisecond; zero: never
}

// Or is o or, if o is zero, other.
func (o Override) Or(other Override) Override {
	if o == (Override{}) {
		return other
	}
	return o
}

// ActiveAt is o at an instant: the zero Override from its end on.
func (o Override) ActiveAt(t time.Time) Override {
	if !o.Until.IsZero() && !t.Before(o.Until) {
		return Override{}
	}
	return o
}
