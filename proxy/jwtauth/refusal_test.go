package jwtauth

import (
	"errors"
	"strings"
	"testing"

	"metergate/proxy/credential"
)

// The operator's log says what was compared; the client's text does not change.
func TestRefusalSaysWhatWasCompared(t *testing.T) {
	strict := goodOptions()
	strict.Type, strict.Issuer, strict.Audience = "at+jwt", "https://issuer.example/", "analysis"
	strict.UserClaim, strict.PlanClaim = "app.user", "app.plan"
	plain := goodOptions()
	const typed = `{"alg":"HS256","typ":"at+jwt"}`
	const issued = `"iss":"https://issuer.example/","aud":"analysis",` + expires
	long := strings.Repeat("x", 1000)
	for name, c := range map[string]struct {
		options        Options
		header, claims string
		reason         *credential.Error
		compared       string
	}{
		"algorithm":       {plain, `{"alg":"RS256"}`, "{}", errSignature, `the token is signed with "RS256"; auth.jwt.algorithms is [HS256]`},
		"no algorithm":    {plain, `{}`, "{}", errSignature, `the token is signed with null; auth.jwt.algorithms is [HS256]`},
		"a long one":      {plain, `{"alg":"` + long + `"}`, "{}", errSignature, `the token is signed with "` + long[:100] + `..."; auth.jwt.algorithms is [HS256]`},
		"a forged line":   {plain, `{"alg":"a\n\"b\u2028"}`, "{}", errSignature, `the token is signed with "a\n\"b\u2028"; auth.jwt.algorithms is [HS256]`},
		"type":            {strict, `{"alg":"HS256","typ":"JWT"}`, "{}", errType, `typ is "JWT"; auth.jwt.type is "at+jwt"`},
		"no expiry":       {plain, hs256, `{"sub":"u"}`, errNoExpiry, `there is no claim exp`},
		"expired":         {plain, hs256, `{"sub":"u","exp":1799999990}`, errExpired, `exp is 2027-01-15T07:59:50Z, and it is 2027-01-15T08:00:00Z`},
		"milliseconds":    {plain, hs256, `{"sub":"u","exp":1800000060000}`, errTime, `exp is 1800000060000`},
		"not yet":         {plain, hs256, `{"sub":"u","nbf":1800000010,` + expires + `}`, errNotYet, `nbf is 2027-01-15T08:00:10Z, and it is 2027-01-15T08:00:00Z`},
		"issuer":          {strict, typed, `{"iss":"https://issuer.example","aud":"analysis",` + expires + `}`, errIssuer, `iss is "https://issuer.example"; auth.jwt.issuer is "https://issuer.example/"`},
		"no issuer":       {strict, typed, `{"aud":"analysis",` + expires + `}`, errIssuer, `there is no claim iss; auth.jwt.issuer is "https://issuer.example/"`},
		"audience":        {strict, typed, `{"iss":"https://issuer.example/","aud":["x","y"],` + expires + `}`, errAudience, `aud is ["x" "y"]; auth.jwt.audience is "analysis"`},
		"many audiences":  {strict, typed, `{"iss":"https://issuer.example/","aud":["a","b","c","d","e"],` + expires + `}`, errAudience, `aud is ["a" "b" "c" "d" ...]; auth.jwt.audience is "analysis"`},
		"no user":         {strict, typed, `{` + issued + `,"app":{}}`, errNoUser, `there is no claim app.user (auth.jwt.claims.user)`},
		"a user, no text": {strict, typed, `{` + issued + `,"app":{"user":17}}`, errUser, `the claim app.user (auth.jwt.claims.user) is a number; auth.jwt.user_from_number accepts whole numbers`},
		"a long user":     {strict, typed, `{` + issued + `,"app":{"user":"` + long + `"}}`, errUser, `the claim app.user (auth.jwt.claims.user) is a text of 1000 bytes`},
		"a plan, no text": {strict, typed, `{` + issued + `,"app":{"user":"u","plan":["pro"]}}`, errPlan, `the claim app.plan (auth.jwt.claims.plan) is a list; auth.jwt.plans can say which plans its values mean`},
	} {
		_, err := newVerifier(t, c.options).Verify(t.Context(), sign(c.header, c.claims))
		var reason *credential.Error
		if !errors.As(err, &reason) || reason != c.reason {
			t.Errorf("%s: %v, want %v", name, err, c.reason)
		} else if want := c.reason.Error() + ": " + c.compared; err.Error() != want {
			t.Errorf("%s:\n got %s\nwant %s", name, err, want)
		}
	}
	good := sign(hs256, `{"sub":"u",`+expires+`}`)
	_, err := newVerifier(t, plain).Verify(t.Context(), good[:len(good)-4]+"AAAA")
	if want := errSignature.Error() + ": the signature does not fit auth.jwt.secret"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
