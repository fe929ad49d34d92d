package redisstore

import (
	"context"
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

// prepareTerms fills in the terms of the account in a query, of which the gateway assumes something. It
// returns what to assume for the script, and the terms that o has as a text. They differ if the
// terms need a change that the query does not keep.
func (s *Store) prepareTerms(ctx context.Context, q *query, o *outcome, assumed script.Assumption, at time.Time) (script.Assumption, string, error) {
	for looked := false; ; looked = true {
		terms, err := quota.ParseTerms(assumed.Terms)
		if err != nil {
			return assumed, "", err
		}
		o.terms = terms
		p := q.plans.Effective(parseOverride(assumed.Override))
		if !q.at.IsZero() || s.upToDate(terms, q.plans, p, at) {
			return assumed, assumed.Terms, nil
		}
		found, now, err := s.look(ctx, q.user)
		if err != nil {
			return assumed, "", err
		}
		at = now
		if found.Assumption != assumed && !looked {
			assumed = found.Assumption
			s.overrides.see(q.user, assumed.String())
			continue
		}
		return s.changeTerms(ctx, q, o, found, at)
	}
}

// upToDate reports whether the terms of an account need no change under the plan p.
func (s *Store) upToDate(terms quota.Terms, plans quota.PlanChoice, p *quota.Plan, at time.Time) bool {
	return (plans.Anchor == nil || terms.Follows(p, *plans.Anchor)) && len(terms.CarryDue(p, s.calendar, at)) == 0
}

// changeTerms brings the terms up to date that were found, in Redis only if the query keeps them.
func (s *Store) changeTerms(ctx context.Context, q *query, o *outcome, found script.Looked, at time.Time) (script.Assumption, string, error) {
	for range termsTries {
		p := q.plans.Effective(parseOverride(found.Override))
		before, err := quota.ParseTerms(found.Terms)
		if err != nil {
			return found.Assumption, "", err
		}
		o.terms = before
		if q.plans.Anchor != nil {
			activity := found.Activity()
			activity.Reading = !q.keepsTerms
			o.terms = o.terms.Follow(p, *q.plans.Anchor, s.calendar, at, activity)
		}
		if o.terms, err = s.carryOver(ctx, q.user, p, o.terms, found.Windows, at); err != nil {
			return found.Assumption, "", err
		}
		text := o.terms.Prune(p, s.calendar, at, s.keep).String()
		if !q.keepsTerms || text == found.Terms {
			return found.Assumption, o.terms.String(), nil
		}
		if o.terms, err = quota.ParseTerms(text); err != nil {
			return found.Assumption, "", err
		}
		set, err := s.setTerms(ctx, q.user, p, found.Assumption, before, o.terms, at)
		if err != nil {
			return found.Assumption, "", err
		}
		if set {
			found.Terms = text
			s.overrides.see(q.user, found.Assumption.String())
			return found.Assumption, text, nil
		}
		if found, at, err = s.look(ctx, q.user); err != nil {
			return found.Assumption, "", err
		}
		s.overrides.see(q.user, found.Assumption.String())
	}
	return found.Assumption, "", errChanged
}

// look returns what the terms of an account depend on.
func (s *Store) look(ctx context.Context, user string) (script.Looked, time.Time, error) {
	reply, at, err := s.call(ctx, script.Look, user, script.AnyOverride+"\n", noCounts, func(*resp.Args) {})
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
	l := newLayout(nil, p, before, terms)
	reply, _, err := s.call(ctx, script.Read, user, script.AnyOverride, l, func(*resp.Args) {})
	if err != nil {
		return terms, err
	}
	counts := l.countsOf(reply.Numbers)
	for _, i := range due {
		limit, carried := p.Limits()[i], int64(0)
		running := terms.WindowAt(s.calendar, limit.Period, at)
		if quota.AnyBegan(s.calendar, counted, running.Start) {
			carried = limit.CarryOver(counts[i])
		}
		terms = terms.WithCarried(running.ID, limit, carried)
	}
	return terms, nil
}

// setTerms sets the terms of an account if the assumption is right, and reports whether it was.
func (s *Store) setTerms(ctx context.Context, user string, p *quota.Plan, assumed script.Assumption, before, terms quota.Terms, at time.Time) (bool, error) {
	periods := append([]quota.Period{quota.Month, quota.Year}, p.Periods()...)
	running := append(before.WindowsAt(s.calendar, periods, at), terms.WindowsAt(s.calendar, periods, at)...)
	l := newLayout(running, nil, nil, terms)
	own := script.TermsArgs{Terms: terms.String(), Until: latestEnd(running).Add(s.keep)}
	reply, _, err := s.call(ctx, script.Terms, user, assumed.String(), l, own.AppendTo)
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

// noteFirstUse notes the day of the first counted request of an account, right after it was counted.
// What fails is made up for by the next request.
func (s *Store) noteFirstUse(ctx context.Context, r *quota.Reservation, o *outcome) {
	if !r.Plans.Terms || r.Plans.Anchor == nil || o.plan.Anchor() != quota.FirstUseAnchor || o.terms.KnowsFirstUse() {
		return
	}
	found, at, err := s.look(ctx, r.User)
	if err != nil {
		return
	}
	before, err := quota.ParseTerms(found.Terms)
	if err != nil {
		return
	}
	activity := found.Activity()
	activity.Counting = true
	after := before.Follow(o.plan, *r.Plans.Anchor, s.calendar, at, activity)
	if set, err := s.setTerms(ctx, r.User, o.plan, found.Assumption, before, after, at); err == nil && set {
		found.Terms = after.String()
	}
	s.overrides.see(r.User, found.Assumption.String())
}
