package plancheck

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"metergate/quota"
)

// A Change gives a limit of a plan another amount.
type Change struct {
	Plan   string
	Limit  string // its name, see quota.Limit.Name
	Amount int64
}

// String returns what ParseChange reads.
func (c Change) String() string { return fmt.Sprintf("%s/%s=%d", c.Plan, c.Limit, c.Amount) }

// ParseChange reads "PLAN/LIMIT=NUMBER", such as "free/month=50". It does not know the plans.
func ParseChange(text string) (c Change, err error) {
	equals := strings.LastIndexByte(text, '=')
	plan, limit, ok := strings.Cut(text[:max(equals, 0)], "/")
	if !ok || plan == "" || limit == "" {
		return c, fmt.Errorf("%.80q is not a change; write PLAN/LIMIT=NUMBER, such as free/month=50", text)
	}
	c.Plan, c.Limit = plan, limit
	if c.Amount, err = strconv.ParseInt(text[equals+1:], 10, 64); err != nil || c.Amount < 0 || c.Amount > quota.MaxAmount || strings.HasPrefix(text[equals+1:], "+") {
		return c, fmt.Errorf("%.80s: must be a whole number from 0 to %d, got %.40q", text[:equals], int64(quota.MaxAmount), text[equals+1:])
	}
	return c, nil
}

// Apply returns the plans after some changes. The error names the change and what there is instead.
func Apply(plans map[string]*quota.Plan, changes []Change) (map[string]*quota.Plan, error) {
	changed := maps.Clone(plans)
	for i, c := range changes {
		p := changed[c.Plan]
		if p == nil {
			return nil, fmt.Errorf("%s: there is no plan %.80q; %s", c, c.Plan, quota.ListNames("plan", slices.Sorted(maps.Keys(plans))))
		}
		if slices.ContainsFunc(changes[:i], func(o Change) bool { return o.Plan == c.Plan && o.Limit == c.Limit }) {
			return nil, fmt.Errorf("%s: the limit is given twice; keep one of them", c)
		}
		at, err := FindLimit(p, c.Limit)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		limits := slices.Clone(p.Limits())
		if limits[at].Amount = c.Amount; c.Amount == 0 && limits[at].Carry > 0 {
			return nil, fmt.Errorf("%s: nothing of a limit of 0 can be carried; choose 1 or more, or remove its carry in the configuration", c)
		}
		if changed[c.Plan], err = p.WithLimits(limits); err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
	}
	return changed, nil
}

// FindLimit returns the index of the limit of a plan that has a name.
func FindLimit(p *quota.Plan, name string) (at int, err error) {
	var names []string
	at = -1
	for i, l := range p.Limits() {
		switch names = append(names, l.Name()); {
		case l.Name() != name:
		case at >= 0:
			return 0, fmt.Errorf("two limits of the plan %s have this name; rename an endpoint, or check the change with metergate plan-check", p.Name())
		default:
			at = i
		}
	}
	switch {
	case at >= 0:
		return at, nil
	case name == quota.ConcurrencyName || name == "attempts":
		return 0, fmt.Errorf("%s says nothing about what users have used, so it cannot be checked; choose a limit: %s", name, strings.Join(names, ", "))
	case len(names) == 0:
		return 0, fmt.Errorf("the plan %s has no limits", p.Name())
	}
	return 0, fmt.Errorf("the plan %s has no limit %.80q; %s", p.Name(), name, quota.ListNames("limit", names))
}
