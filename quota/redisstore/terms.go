package redisstore

import (
	"context"
	"errors"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Some plans give accounts windows of their own, or carry over what was left: these accounts have
// terms, see quota.Terms. A script is sent with the terms that were last seen, and says if they are
// wrong, as with the plan override. So terms cost a round trip only when they change: when an account
// is new, when its anchor changes, and at the turn of a window from which something is carried.
//
// The new terms are worked out here and set if the old ones are still there. Of many requests at the
// turn of a window one sets them, and all others go by these.

// termsTries is how often terms are worked out until they are set, or were found to be set.
const termsTries = 5

// errWrongOverride: the override of a member or of their pool is another one than was assumed. It is corrected.
var errWrongOverride = errors.New("another plan override was assumed")

// prepareTerms fills in the terms of the accounts of a query.
func (s *Store) prepareTerms(ctx context.Context, q *query, o *outcome, at time.Time) error {
	for range termsTries {
		if err := s.tryToPrepareTerms(ctx, q, o, at); !errors.Is(err, errWrongOverride) {
			return err
		}
	}
	return quota.ErrContended
}

func (s *Store) tryToPrepareTerms(ctx context.Context, q *query, o *outcome, at time.Time) error {
	if o.pool.account == "" {
		return s.prepareTermsOf(ctx, q, &o.account, nil, q.plans.Effective, at)
	}
	// The shared limits go by the pool's terms, and a member's own limits by theirs.
	shared, own := q.plans, q.plans
	shared.Scope, own.Scope = quota.PoolScope, quota.UserScope
	override := overrideIn(o.account.text)
	effective := func(of quota.Override) *quota.Plan { return own.Effective(of.Or(overrideIn(o.pool.text))) }
	if q.plans.Effective(override.Or(overrideIn(o.pool.text))).PoolNeedsTerms() {
		if err := s.prepareTermsOf(ctx, q, &o.pool, &o.account, func(ofPool quota.Override) *quota.Plan {
			return shared.Effective(override.Or(ofPool))
		}, at); errors.Is(err, errWrongOverride) {
			return err
		} else if err != nil {
			s.supposeTerms(q, &o.account, effective, at)
			return err
		}
	} else {
		o.pool.terms, o.pool.termsText, o.pool.text = quota.Terms{}, "", script.ParseAssumption(o.pool.text).Override
	}
	return s.prepareTermsOf(ctx, q, &o.account, &o.pool, effective, at)
}

// supposeTerms fills in the terms of an account about which Redis does not answer: those that were last
// seen, or else those of a new account. So a request that an outage begins with is counted in the
// windows in which those that follow it are.
func (s *Store) supposeTerms(q *query, a *assumed, effective func(quota.Override) *quota.Plan, at time.Time) {
	assumption := script.ParseAssumption(a.text)
	terms, err := quota.ParseTerms(assumption.Terms)
	if err == nil && assumption.Terms == "" {
		terms = terms.Follow(effective(parseOverride(assumption.Override)), q.plans, s.calendar, at, quota.Activity{Reading: true})
	}
	a.terms = terms
}

// prepareTermsOf fills in the terms of an account, of which the gateway assumes something, and corrects
// that if it sees that it is wrong. effective returns the plan that has the limits of the account. The override of
// other decides about that as well; nil: there is none.
func (s *Store) prepareTermsOf(ctx context.Context, q *query, a, other *assumed, effective func(quota.Override) *quota.Plan, at time.Time) error {
	for looked := false; ; looked = true {
		assumption := script.ParseAssumption(a.text)
		if !assumption.HasTerms { // they did not matter when the query was last sent
			assumption.HasTerms = true
			a.text = assumption.String()
		}
		terms, err := quota.ParseTerms(assumption.Terms)
		if err != nil {
			return err
		}
		a.terms, a.termsText = terms, assumption.Terms
		p := effective(parseOverride(assumption.Override))
		if !q.at.IsZero() || terms.Follows(p, q.plans, at) && len(terms.CarryDue(p, s.calendar, at)) == 0 {
			return nil
		}
		found, now, err := s.look(ctx, a.account)
		if err != nil {
			s.supposeTerms(q, a, effective, at)
			return err
		}
		at = now
		if found.Assumption != assumption && !looked {
			s.learn(a, found.Assumption.String())
			continue
		}
		if q.keepsTerms && other != nil { // by a plan that does not apply, wrong terms would be set
			foundOther, _, err := s.look(ctx, other.account)
			if err != nil {
				s.supposeTerms(q, a, effective, at)
				return err
			}
			if foundOther.Override != script.ParseAssumption(other.text).Override {
				s.learn(other, foundOther.Assumption.String())
				return errWrongOverride
			}
		}
		return s.changeTerms(ctx, q, a, effective, found, at)
	}
}

// changeTerms brings the terms up to date that were found, in Redis only if the query keeps them.
func (s *Store) changeTerms(ctx context.Context, q *query, a *assumed, effective func(quota.Override) *quota.Plan, found script.Looked, at time.Time) error {
	for range termsTries {
		p := effective(parseOverride(found.Override))
		before, err := quota.ParseTerms(found.Terms)
		if err != nil {
			return err
		}
		a.text, a.terms = found.Assumption.String(), before
		activity := found.Activity()
		activity.Reading = !q.keepsTerms
		a.terms = a.terms.Follow(p, q.plans, s.calendar, at, activity)
		if a.terms, err = s.carryOver(ctx, a.account, p, a.terms, found.Windows, at); err != nil {
			return err
		}
		pruned := a.terms.Prune(s.calendar, at, s.keep).String()
		if !q.keepsTerms || pruned == found.Terms {
			a.termsText = a.terms.String()
			return nil
		}
		if a.terms, err = quota.ParseTerms(pruned); err != nil {
			return err
		}
		set, err := s.setTerms(ctx, a.account, p, &found, before, a.terms, at)
		if err != nil {
			return err
		}
		if set {
			found.Terms, a.termsText = pruned, pruned
			s.learn(a, found.Assumption.String())
			return nil
		}
		if found, at, err = s.look(ctx, a.account); err != nil {
			return err
		}
		s.learn(a, found.Assumption.String())
	}
	return quota.ErrContended
}

// look returns what the terms of an account depend on.
func (s *Store) look(ctx context.Context, user string) (script.Looked, time.Time, error) {
	reply, at, err := s.callAlone(ctx, script.Look, user, script.AnyOverride+"\n", noCounts, func(*resp.Args) {})
	if err != nil {
		return script.Looked{}, at, err
	}
	return script.ParseLooked(reply.Assumed), at, nil
}

// carryOver works out what was carried into the windows that run at a time, where that is not known
// yet. In the windows before, nothing is reserved any more: what is used and held there can only
// become less, unless a journal is replayed late.
func (s *Store) carryOver(ctx context.Context, user string, p *quota.Plan, terms quota.Terms, counted []string, at time.Time) (quota.Terms, error) {
	due := terms.CarryDue(p, s.calendar, at)
	if len(due) == 0 {
		return terms, nil
	}
	var before []quota.Window
	for _, period := range p.Periods() {
		before = append(before, terms.WindowBefore(s.calendar, period, at))
	}
	l := newLayout(laidOut{}, p, laidOut{windows: before, terms: terms}, plainRequests{})
	reply, _, err := s.callAlone(ctx, script.Read, user, script.AnyOverride, l, func(*resp.Args) {})
	if err != nil {
		return terms, err
	}
	counts := l.countsOf(reply.Numbers)
	for _, i := range due {
		terms = terms.CarryOver(p.Limits()[i], counts[i], counted, s.calendar, at)
	}
	return terms, nil
}

// setTerms sets the terms of an account if they are still those that were found, and reports whether they
// were. Terms by which another month or year runs at once are only set if nothing has begun meanwhile.
func (s *Store) setTerms(ctx context.Context, user string, p *quota.Plan, found *script.Looked, before, terms quota.Terms, at time.Time) (bool, error) {
	periods := append([]quota.Period{quota.Month, quota.Year}, p.Periods()...)
	running := append(before.WindowsAt(s.calendar, periods, at), terms.WindowsAt(s.calendar, periods, at)...)
	l := newLayout(laidOut{windows: running}, nil, laidOut{}, plainRequests{})
	own := script.TermsArgs{Terms: terms.String(), Until: latestEnd(running).Add(s.keep)}
	if before.MovesRunning(terms, s.calendar, at) {
		own.Idle = found
	}
	reply, _, err := s.callAlone(ctx, script.Terms, user, found.Assumption.String(), l, own.AppendTo)
	return err == nil && reply.Code == script.OK, err
}

func latestEnd(windows []quota.Window) (end time.Time) {
	for _, w := range windows {
		if w.End.After(end) && w.Period <= quota.Year {
			end = w.End
		}
	}
	return end
}

// noteFirstUse notes the day of the first counted request of an account and of its pool, right after
// it was counted. What fails is made up for by the next request.
func (s *Store) noteFirstUse(ctx context.Context, r *quota.Reservation, o *outcome) {
	if !r.Plans.Terms || r.Plans.Anchor == nil || o.plan.Anchor() != quota.FirstUseAnchor {
		return
	}
	for _, a := range []*assumed{&o.account, &o.pool} {
		p := o.plan.ForScope(quota.UserScope)
		if a == &o.pool {
			p = o.plan.ForScope(quota.PoolScope)
		}
		if a.account == "" || !a.terms.MissesFirstUse(p) || a == &o.pool && !(len(r.PoolWindows) > 0 && o.plan.PoolNeedsTerms()) {
			continue
		}
		found, at, err := s.look(ctx, a.account)
		if err != nil {
			return
		}
		before, err := quota.ParseTerms(found.Terms)
		if err != nil {
			return
		}
		activity := found.Activity()
		activity.Counting = true
		after := before.Follow(p, r.Plans, s.calendar, at, activity)
		if text := after.String(); text != found.Terms {
			if set, err := s.setTerms(ctx, a.account, p, &found, before, after, at); err == nil && set {
				found.Terms = text
			}
		}
		s.overrides.see(a.account, found.Assumption.String())
	}
}
