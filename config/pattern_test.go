package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCheckPath(t *testing.T) {
	for _, text := range []string{"/", "/a", "/a/", "/a/b;v=1", "/gr%C3%B6%C3%9Fe", "/a%20b", "/a%3Fb", "/!$&'()*+,;=:@[]~"} {
		if err := checkPath(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "a", "//", "/a//b", "/.", "/a/..", "/%2e", "/a;/..;x", "/;x", "/a%2Fb", `/a\b`, "/a%0Ab", "/a%C2%9Fb", "/%ff", "/%C3", "/a%", "/a%4", "/a?b", "/a#b",
		"/ö", "/%c3%b6", "/%41", "/a b", "/{a}", "/a|b",
	} {
		if checkPath(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// A pattern that is valid and probably not meant is named; one that may well be meant is
// not.
func TestWarningsNamePatternsThatAreProbablyNotMeant(t *testing.T) {
	for match, want := range map[string]string{
		"POSTT /api/analyze":   "routes[0].match (line 5): the method POSTT is unusual; did you mean POST?",
		"POST api/analyze":     `routes[0].match (line 5): matches only requests to the host "api"; did you mean "POST /api/analyze"?`,
		"api/analyze":          `routes[0].match (line 5): matches only requests to the host "api"; did you mean "/api/analyze"?`,
		"POST /api/analyze":    "",
		"PROPFIND /files/":     "",
		"QUERY /api/analyze":   "",
		"GET api.example.com/": "",
		"GET localhost/":       "",
	} {
		cfg, err := Parse("gateway.yaml", []byte(`
auth: { jwt: { secret: 0123456789abcdef0123456789abcdef } }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
routes: [{ match: "`+match+`", upstream: api }]
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
`), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.Warnings(), "\n"); got != want {
			t.Errorf("%s: warnings %q, want %q", match, got, want)
		}
	}
}

func TestShortAdminTokenIsWarning(t *testing.T) {
	for token, want := range map[string]string{
		"":                                 "",
		"0123456789abcdef":                 "admin.token: has 16 bytes, and may be guessed; make one that cannot with: openssl rand -hex 32",
		"0123456789abcdef0123456789abcde":  "admin.token: has 31 bytes, and may be guessed; make one that cannot with: openssl rand -hex 32",
		"0123456789abcdef0123456789abcdef": "",
	} {
		cfg := &Config{Admin: Admin{Token: Secret(token)}}
		if got := strings.Join(cfg.Warnings(), "\n"); got != want {
			t.Errorf("%q: warnings %q, want %q", token, got, want)
		}
		cfg = &Config{Admin: Admin{ViewerToken: Secret(token)}}
		if got := strings.Join(cfg.Warnings(), "\n"); got != strings.Replace(want, "admin.token", "admin.viewer_token", 1) {
			t.Errorf("%q for viewers: warnings %q", token, got)
		}
	}
}

func TestSharedLimitsOfNobodyAreWarning(t *testing.T) {
	cfg := &Config{Plans: map[string]Plan{"free": {}, "team": {Shared: []Limit{{}}}}}
	want := "plans.team.shared: applies to nobody, because auth.jwt.claims.org does not say which claim names a user's organisation"
	if got := strings.Join(cfg.Warnings(), "\n"); got != want {
		t.Errorf("warnings %q, want %q", got, want)
	}
	cfg.Auth.JWT = []JWT{{Claims: Claims{Org: "org"}}}
	if got := cfg.Warnings(); got != nil {
		t.Errorf("with claims.org: warnings %q", got)
	}
}

// A claim without the key of a plan that uses it changes nothing, or not what was meant.
func TestClaimsWithoutAPlanAreWarnings(t *testing.T) {
	const (
		sharesNothing = "auth.jwt.claims.org: the members of an organisation share nothing, because no plan has shared limits; each user just has counts of their own in each organisation"
		isNotRead     = "auth.jwt.claims.anchor: is not read, because no plan has anchor: claim; add that to the plans whose months begin on the day in the token"
	)
	for _, c := range []struct {
		claims Claims
		plan   Plan
		want   []string
	}{
		{Claims{}, Plan{}, nil},
		{Claims{Org: "org", Anchor: "since"}, Plan{}, []string{sharesNothing, isNotRead}},
		{Claims{Org: "org", Anchor: "since"}, Plan{Shared: []Limit{{}}, Anchor: "claim"}, nil},
		{Claims{Anchor: "since"}, Plan{Anchor: "first_use"}, []string{isNotRead}},
	} {
		cfg := &Config{Plans: map[string]Plan{"free": {}, "paid": c.plan}}
		cfg.Auth.JWT = []JWT{{Claims: c.claims}}
		if got := cfg.Warnings(); !slices.Equal(got, c.want) {
			t.Errorf("%+v, %+v: warnings %q, want %q", c.claims, c.plan, got, c.want)
		}
	}
}

// A request holds the most that it may cost. So a route whose cost is above a limit is closed to
// the users of that plan, and the operator wants to know before they do.
func TestCostsThatCannotBePaid(t *testing.T) {
	cfg, err := Parse("gateway.yaml", []byte(`
auth: { jwt: { secret: 0123456789abcdef0123456789abcdef, claims: { org: org } } }
default_plan: free
plans:
  free:
    limits:
      - { requests: 1, per: month }
      - { units: 19, per: month }
      - { units: 5, per: day }
  exact: { limits: [{ units: 20, per: month }] }
  elsewhere: { limits: [{ units: 1, per: month, endpoint: analyze }] }
  none: { limits: [{ units: 0, per: month, endpoint: report }] }
  soft: { limits: [{ units: 5, per: month, mode: observe }] }
  trial: { limits: [{ units: 5, per: month }], mode: observe }
  small: { limits: [{ units: 7, per: hour, endpoint: report }] }
  team: { limits: [], shared: [{ units: 7, per: month }] }
routes:
  - { match: "POST /analyze", endpoint: analyze, upstream: api }
  - { match: "POST /report", endpoint: report, upstream: api, cost: { max: 20, from: header X-Cost } }
  - { match: "POST /free", endpoint: report, upstream: api, cost: 20, mode: observe }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	const text = "routes[1].cost (line 19): a request may cost 20 units, and plans.%s allows only %d, " +
		"so users of this plan can never call POST /report; lower the cost, raise the limit, or set it to 0 if the plan does not include this endpoint"
	want := []string{fmt.Sprintf(text, "free.limits[1] (line 8)", 19), fmt.Sprintf(text, "small.limits[0] (line 15)", 7), fmt.Sprintf(text, "team.shared[0] (line 16)", 7)}
	if got := cfg.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
