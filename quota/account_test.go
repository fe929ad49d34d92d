package quota

import (
	"strings"
	"testing"
)

func TestSplitAccount(t *testing.T) {
	for _, c := range []struct {
		org, user string
		scope     Scope
	}{
		{"", "u-17", UserScope},
		{"acme", "u-17", MemberScope},
		{"acme", "", PoolScope},
		{"u-17", "acme", MemberScope},
	} {
		account := MemberAccount(c.org, c.user)
		org, user := SplitAccount(account)
		if org != c.org || user != c.user || ScopeOf(account) != c.scope {
			t.Errorf("%q in %q: the account %q is split into %q and %q, scope %d", c.user, c.org, account, org, user, ScopeOf(account))
		}
	}
	if MemberAccount("acme", "u") == MemberAccount("", "acme"+"u") || MemberAccount("a", "bc") == MemberAccount("ab", "c") {
		t.Error("two accounts are the same")
	}
}

// A user is not held to shared limits, and a pool to nothing else. A member is held to both, and
// their own limit is the headline.
func TestPlanForScope(t *testing.T) {
	p, err := NewPlan(PlanOptions{Name: "team", WarnAt: 80, Endpoints: []string{"analyze"}, Limits: []Limit{
		{Amount: 50000, Period: Month, Shared: true}, {Amount: 500, Period: Month},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scope    Scope
		limits   []string
		headline string
		pool     int // periods
	}{
		{UserScope, []string{"month"}, "month", 0},
		{MemberScope, []string{"shared-month", "month"}, "month", 1},
		{PoolScope, []string{"shared-month"}, "shared-month", 0},
	} {
		p := PlanChoice{Claimed: p, Scope: c.scope}.Effective(Override{})
		var names []string
		for _, l := range p.Limits() {
			names = append(names, l.Name())
		}
		headline, _ := p.Headline()
		if len(names) != len(c.limits) || names[0] != c.limits[0] || names[headline] != c.headline || len(p.PoolPeriods()) != c.pool || len(p.Periods()) != 1 {
			t.Errorf("scope %d: limits %v, headline %d, %d periods of the pool", c.scope, names, headline, len(p.PoolPeriods()))
		}
		for i, counter := range p.Counters()[:len(names)] {
			if counter.Shared != (c.scope == MemberScope && names[i] == "shared-month") {
				t.Errorf("scope %d: the counter of %s: %+v", c.scope, names[i], counter)
			}
		}
	}
}

// No id can be written so that it names the account of another organisation.
func TestCheckedAccountRefusesSeparators(t *testing.T) {
	for _, c := range []struct {
		org, user, want string
		fault           string
	}{
		{"", "u", "u", ""}, {"acme", "u", MemberAccount("acme", "u"), ""}, {"acme", "", PoolAccount("acme"), ""},
		{"", "", "", "a user's id"}, {"", MemberAccount("acme", "u"), "", "organisation's id"}, {"", PoolAccount("acme"), "", "organisation's id"},
		{"acme\x1fu", "", "", "organisation's id"}, {"acme\x1fu", "v", "", "organisation's id"}, {"acme", "u\x1fv", "", "a user's id"}, {"a\n", "u", "", "organisation's id"},
	} {
		got, err := CheckedAccount(c.org, c.user)
		if err == nil && (got != c.want || c.fault != "") || err != nil && (c.fault == "" || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%q %q: %q, error %v, want %q, %q", c.org, c.user, got, err, c.want, c.fault)
		}
	}
}
