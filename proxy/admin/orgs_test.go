package admin_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

// withOrganisations makes tokens name organisations, and adds the plan team.
func withOrganisations(t *testing.T) func(*admin.Options) {
	return func(o *admin.Options) {
		g := o.Gateway.(*gateway)
		g.orgs = true
		team, err := quota.NewPlan(quota.PlanOptions{Name: "team", Endpoints: []string{"analyze", "image-analysis"}, WarnAt: 80, Limits: []quota.Limit{
			{Amount: 10, Period: quota.Month},
			{Amount: 500, Period: quota.Month, Shared: true}, {Amount: 50, Period: quota.Month, Endpoint: "image-analysis", Shared: true},
		}})
		if err != nil {
			t.Fatal(err)
		}
		g.plans["team"] = team
	}
}

// An organisation, a member of it and a user of the same id without one are three accounts: what an
// administrator changes of one does not show in the counts of another.
func TestChangesOfOrganisationsAndMembers(t *testing.T) {
	r := newTestAPI(t, withOrganisations(t))
	const org, member, user = "/admin/orgs/acme", "/admin/orgs/acme/members/u", "/admin/users/u"
	for i, path := range []string{org, member, user} {
		r.ok("PUT", path+"/plan", `{"plan":"team"}`)
		r.ok("PUT", path+"/counts", `{"per":"month","endpoints":{"analyze":`+string(rune('1'+i))+`}}`)
	}
	r.ok("POST", org+"/grants", `{"requests":7}`)
	r.ok("POST", org+"/grants", `{"requests":2,"endpoint":"image-analysis","per":"month"}`)
	r.ok("POST", member+"/grants", `{"requests":3}`)

	s := r.ok("GET", org, "")
	if s.User != "" || s.Org != "acme" || s.Used != 1 || *s.Limit != 507 || s.Plan != "team" || len(s.Limits) != 2 || s.Limits[1].Limit != 52 || len(s.Granted) != 2 || s.Granted[0].Name != "shared-month" {
		t.Errorf("the organisation: %+v", s)
	}
	if s := r.ok("GET", member, ""); s.User != "u" || s.Org != "acme" || s.Used != 2 || *s.Limit != 13 || len(s.Limits) != 3 {
		t.Errorf("the member: %+v", s)
	}
	if s := r.ok("GET", user, ""); s.User != "u" || s.Org != "" || s.Used != 3 || *s.Limit != 10 || len(s.Limits) != 1 {
		t.Errorf("the user without an organisation: %+v", s)
	}
	if s := r.ok("POST", member+"/reset", ""); s.Used != 0 || r.ok("GET", org, "").Used != 1 || r.ok("GET", user, "").Used != 3 {
		t.Errorf("after a reset of the member: %+v", s)
	}
	if s := r.ok("POST", org+"/reset", ""); s.Used != 0 || r.ok("GET", user, "").Used != 3 {
		t.Errorf("after a reset of the organisation: %+v", s)
	}
	r.ok("DELETE", org+"/plan?reason=over", "")

	for path, want := range map[string]string{
		org:    `{"org":"acme","entries":[{`,
		member: `{"user":"u","org":"acme","entries":[{`,
		user:   `{"user":"u","entries":[{`,
	} {
		if _, _, text := r.do("GET", path+"/audit", ""); !strings.HasPrefix(text, want) {
			t.Errorf("%s/audit: %s", path, text)
		}
	}
	r.refused(422, "The user's plan team has no limit day. It has month.", "POST", member+"/grants", `{"requests":1,"per":"day"}`)
	r.ok("PUT", org+"/plan", `{"plan":"team"}`)
	r.refused(422, "The organisation's plan team has no shared limit day. It has shared-month, shared-image-analysis-month.", "POST", org+"/grants", `{"requests":1,"per":"day"}`)
}

// Every id of an organisation and of a member names its own account, whatever it looks like in a path.
func TestIDsOfOrganisationsThatLookLikePaths(t *testing.T) {
	r := newTestAPI(t, withOrganisations(t))
	ids := []string{"acme", "members", "audit", "..", "//", "a/b", "a%2Fb", " ", "日本語", "plan", strings.Repeat("😀", 64)}
	n := 0
	for _, org := range ids {
		for _, user := range append(ids, "") {
			n++
			path := "/admin/orgs/" + url.PathEscape(org)
			if user != "" {
				path += "/members/" + url.PathEscape(user)
			}
			r.ok("PUT", path+"/counts", `{"per":"month","endpoints":{"analyze":`+jsonNumber(n)+`}}`)
			if s := r.ok("GET", path+"?plan=open", ""); s.Org != org || s.User != user {
				t.Errorf("%s: %q of %q", path, s.User, s.Org)
			}
		}
	}
	for _, path := range []string{"/admin/orgs", "/admin/orgs/", "/admin/orgs//members", "/admin/orgs/a/", "/admin/orgs/a/members/", "/admin/orgs/a/members//plan",
		"/admin/orgs/a/members/u/members", "/admin/orgs/a/members/u/plan/", "/admin/orgs/a/x", "/admin/orgs/a/members/u/x"} {
		r.refused(404, "%2F", "GET", path, "")
	}
	r.refused(400, "organisation's id", "GET", "/admin/orgs/a%1Fb", "")
	r.refused(400, "organisation's id", "GET", "/admin/orgs/"+strings.Repeat("a", 257), "")
	r.refused(400, "user's id", "GET", "/admin/orgs/a/members/b%1Fc", "")
	r.refused(400, "organisation's id", "GET", "/admin/users/%1Facme%1Fu", "")
	r.refused(404, "Nothing is here", "GET", "/admin/orgsx", "")
}

func jsonNumber(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

// A list of all users says which organisation each belongs to. A list of members has those of one
// organisation. The plan that was set for an organisation is that of its members.
func TestListsOfMembers(t *testing.T) {
	r := newTestAPI(t, withOrganisations(t))
	body := `{"org":"acme","user":"a","endpoints":{"analyze":1}}
{"org":"acme","user":"b","endpoints":{"analyze":2,"image-analysis":3}}
{"org":"other","user":"a","endpoints":{"analyze":4}}
{"user":"a","endpoints":{"analyze":5}}
{"org":"acme","endpoints":{"analyze":6}}
`
	if status, _, text := r.do("PUT", "/admin/counts", body, "Content-Type: application/jsonl"); status != 200 || text != `{"users":5,"counts":6}`+"\n" {
		t.Fatalf("%d %s", status, text)
	}
	if s := r.ok("GET", "/admin/orgs/acme?plan=team", ""); s.Used != 6 {
		t.Errorf("the organisation has used %d, want 6", s.Used)
	}
	r.ok("PUT", "/admin/orgs/acme/plan", `{"plan":"team"}`)
	r.ok("PUT", "/admin/orgs/acme/members/b/plan", `{"plan":"open"}`)

	csv := func(path string) string {
		status, header, text := r.do("GET", path, "")
		if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
			t.Errorf("%s: %d %v", path, status, header)
		}
		return strings.ReplaceAll(text, "\r\n", "|")
	}
	if got, want := csv("/admin/users?format=csv"), "user,plan,endpoint,used,org|"+
		"a,team,analyze,1,acme|b,open,analyze,2,acme|b,open,image-analysis,3,acme|a,free,analyze,4,other|a,free,analyze,5,|"; got != want {
		t.Errorf("all users: %s, want %s", got, want)
	}
	if got, want := csv("/admin/orgs/acme/members?format=csv&at=2026-11"), "user,plan,endpoint,used,org|a,team,analyze,1,acme|b,open,analyze,2,acme|b,open,image-analysis,3,acme|"; got != want {
		t.Errorf("the members of acme: %s, want %s", got, want)
	}
	_, _, text := r.do("GET", "/admin/orgs/acme/members", "")
	const want = `{"user":"a","org":"acme","plan":"team","used":1,"endpoints":{"analyze":1},"claimed":null,"override":{"plan":"team","until":null,"shared":true}}`
	if line, _, _ := strings.Cut(text, "\n"); line != want {
		t.Errorf("a member in JSON: %s, want %s", line, want)
	}
	if _, _, text := r.do("GET", "/admin/orgs/nobody/members", ""); text != "" {
		t.Errorf("an organisation without members: %s", text)
	}
	r.refused(400, `line 2: user "a" of organisation "acme" is already in line 1`, "PUT", "/admin/counts",
		strings.Repeat(`{"org":"acme","user":"a","endpoints":{"analyze":1}}`+"\n", 2), "Content-Type: application/jsonl")
	r.refused(400, `line 2: organisation "acme" is already in line 1`, "PUT", "/admin/counts",
		strings.Repeat(`{"org":"acme","endpoints":{"analyze":1}}`+"\n", 2), "Content-Type: application/jsonl")
}
