package admin_test

import (
	"slices"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

// withObservingPlan adds a plan that refuses nothing, with less than the plan free.
func withObservingPlan(t *testing.T) func(*admin.Options) {
	return func(o *admin.Options) {
		watch, err := quota.NewPlan(quota.PlanOptions{Name: "watch", Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80, Observe: true,
			Concurrent: quota.ConcurrencyLimit{Requests: 3}, Limits: []quota.Limit{{Amount: 10, Period: quota.Month}}})
		if err != nil {
			t.Fatal(err)
		}
		o.Gateway.(*gateway).plans["watch"] = watch
	}
}

// A user has the status that a search finds them with, and the name of the limit that it is about.
func TestUserHasStatusOfNearestLimit(t *testing.T) {
	r := newTestAPI(t, withObservingPlan(t))
	const u = "/admin/users/u"
	s := r.ok("PUT", u+"/counts", `{"per":"month","endpoints":{"image-analysis":20}}`)
	if s.Status != "ok" || s.Nearest == nil || s.Nearest.Limit != "image-analysis-month" || s.Nearest.Status != "blocked" || !slices.Equal(s.BlockedBy, []string{"image-analysis-month"}) || s.Observe {
		t.Errorf("with an endpoint used up: %+v", s)
	}
	if found := r.search("q=u").Users[0]; found.Status != s.Nearest.Status || found.Nearest.Limit != s.Nearest.Limit {
		t.Errorf("a search finds %+v, the user has %+v", found, s.Nearest)
	}
	s = r.ok("PUT", u+"/plan", `{"plan":"watch"}`)
	if s.Status != "blocked" || s.Nearest == nil || s.Nearest.Status != "warning" || len(s.BlockedBy) != 0 || !s.Observe {
		t.Errorf("where nothing is refused: %+v", s)
	}
	if found := r.search("q=u").Users[0]; found.Status != s.Nearest.Status {
		t.Errorf("a search finds %+v, the user has %+v", found, s.Nearest)
	}
	if s := r.ok("PUT", u+"/plan", `{"plan":"open"}`); s.Nearest != nil || s.BlockedBy == nil {
		t.Errorf("without limits: %+v", s)
	}
}

// What another plan would do can be asked whether a plan was chosen or not, and changes nothing.
func TestUserAsIfPlanWereChosen(t *testing.T) {
	r := newTestAPI(t, withOrganisations(t), withObservingPlan(t))
	const user, org, member = "/admin/users/u", "/admin/orgs/acme", "/admin/orgs/acme/members/u"
	for _, chosen := range []string{"", "pro"} {
		for _, path := range []string{user, org, member} {
			r.ok("PUT", path+"/counts", `{"per":"month","endpoints":{"image-analysis":20}}`)
			if chosen != "" {
				r.ok("PUT", path+"/plan", `{"plan":"`+chosen+`"}`)
			}
		}
		if s := r.ok("GET", user+"?chosen=free", ""); s.Plan != "free" || !slices.Equal(s.BlockedBy, []string{"image-analysis-month"}) || s.Limits[1].Used != 20 {
			t.Errorf("chosen %q, the user on free: %+v", chosen, s)
		}
		if s := r.ok("GET", member+"?chosen=watch", ""); s.Plan != "watch" || !s.Observe || s.Limits[0].Used != 20 || s.Concurrent == nil || s.Concurrent.Limit != 3 {
			t.Errorf("chosen %q, the member on watch: %+v", chosen, s)
		}
		if s := r.ok("GET", org+"?chosen=free", ""); len(s.Limits) != 0 || s.Members == nil || len(s.Members.Limits) != 2 {
			t.Errorf("chosen %q, the organisation on free: %+v", chosen, s)
		}
		if s := r.ok("GET", org+"?chosen=team", ""); len(s.Limits) != 2 || s.Limits[1].Used != 20 || s.Members == nil || len(s.Members.Limits) != 1 || s.Members.Limits[0].Name != "month" {
			t.Errorf("chosen %q, the organisation on team: %+v", chosen, s)
		}
		if s := r.ok("GET", user, ""); chosen == "" && s.Override != nil || chosen != "" && s.Plan != chosen || s.Members != nil {
			t.Errorf("chosen %q, the user: %+v", chosen, s)
		}
	}
	r.refused(422, `chosen: there is no plan "none"`, "GET", user+"?chosen=none", "")
}
