package config

import (
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
	}
}

func TestSharedLimitsOfNobodyAreWarning(t *testing.T) {
	cfg := &Config{Plans: map[string]Plan{"free": {}, "team": {Shared: []Limit{{}}}}}
	want := "plans.team.shared: applies to nobody, because auth.jwt.claims.org does not say which claim names a user's organisation"
	if got := strings.Join(cfg.Warnings(), "\n"); got != want {
		t.Errorf("warnings %q, want %q", got, want)
	}
	cfg.Auth.JWT.Claims.Org = "org"
	if got := cfg.Warnings(); got != nil {
		t.Errorf("with claims.org: warnings %q", got)
	}
}
