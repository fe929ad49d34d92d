package jwtauth

import (
	"strings"
	"testing"
	"time"

	"metergate/proxy/credential"
)

func TestVerifyReadsUserAndPlanStrictly(t *testing.T) {
	id := func(user, plan string) credential.Identity {
		return credential.Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for _, c := range []struct {
		claims string // after exp
		id     credential.Identity
		want   *credential.Error
	}{
		{`"sub":"u"`, id("u", ""), nil},
		{`"sub":"u","plan":"pro"`, id("u", "pro"), nil},
		{`"sub":"u","plan":""`, id("u", ""), nil},
		{`"sub":"u","iss":7,"aud":7,"jti":[],"PLAN":7,"Sub":8`, id("u", ""), nil},
		{`"sub":"Zo\u00eb \ud83d\ude00"`, id("Zoë 😀", ""), nil},
		{`"sub":"Zoë 😀"`, id("Zoë 😀", ""), nil},
		{`"sub":"\ufffd"`, id("\ufffd", ""), nil},
		{`"sub":"a\\ud800"`, id(`a\ud800`, ""), nil},
		{`"sub":"` + strings.Repeat("x", 256) + `"`, id(strings.Repeat("x", 256), ""), nil},
		{`"sub":"` + strings.Repeat("é", 128) + `"`, id(strings.Repeat("é", 128), ""), nil},
		{`"sub":"` + strings.Repeat("x", 257) + `"`, credential.Identity{}, errUser},
		{`"sub":"` + strings.Repeat("é", 128) + `x"`, credential.Identity{}, errUser},
		{`"plan":"pro"`, credential.Identity{}, errNoUser},
		{`"SUB":"u"`, credential.Identity{}, errNoUser},
		{`"Sub":"u"`, credential.Identity{}, errNoUser},
		{`"ſub":"u"`, credential.Identity{}, errNoUser}, // folds to sub
		{`"sub":""`, credential.Identity{}, errUser},
		{`"sub":null`, credential.Identity{}, errNoUser},
		{`"sub":null,"plan":"pro"`, credential.Identity{}, errNoUser},
		{`"sub":17`, credential.Identity{}, errUser},
		{`"sub":true`, credential.Identity{}, errUser},
		{`"sub":["u"]`, credential.Identity{}, errUser},
		{`"sub":{"sub":"u"}`, credential.Identity{}, errUser},
		{`"sub":"a\nb"`, credential.Identity{}, errUser},
		{`"sub":"a\r"`, credential.Identity{}, errUser},
		{`"sub":"\u0000"`, credential.Identity{}, errUser},
		{`"sub":"a\tb"`, credential.Identity{}, errUser},
		{`"sub":"a\u007f"`, credential.Identity{}, errUser},
		{`"sub":"a\u0085"`, credential.Identity{}, errUser},
		{`"sub":"a\u009f"`, credential.Identity{}, errUser},
		{`"sub":"a\u2028b"`, credential.Identity{}, errUser},
		{"\"sub\":\"a\u2029b\"", credential.Identity{}, errUser},
		{`"sub":"u","plan":null`, id("u", ""), nil},
		{`"sub":"u","plan":"null"`, id("u", "null"), nil},
		{`"sub":"u","plan":null,"plan":"pro"`, credential.Identity{}, errClaims},
		{`"sub":"u","plan":false`, credential.Identity{}, errPlan},
		{`"sub":"u","plan":[]`, credential.Identity{}, errPlan},
		{`"sub":"u","plan":[null]`, credential.Identity{}, errPlan},
		{`"sub":"u","plan":1`, credential.Identity{}, errPlan},
		{`"sub":"u","plan":["pro"]`, credential.Identity{}, errPlan},
		{`"sub":"u","plan":{"name":"pro"}`, credential.Identity{}, errPlan},

		{`"sub":"u","sub":"v"`, credential.Identity{}, errClaims},
		{`"sub":"u","sub":"u"`, credential.Identity{}, errClaims},
		{`"sub":"u","su\u0062":"v"`, credential.Identity{}, errClaims},
		{`"sub":"u","exp":1800000090`, credential.Identity{}, errClaims},
		{`"sub":"u","x":{"y":[{"z":1,"z":1}]}`, credential.Identity{}, errClaims},
		{`"sub":"\ud800"`, credential.Identity{}, errClaims},
		{`"sub":"\ud800\u0041"`, credential.Identity{}, errClaims},
		{`"sub":"\ude00\ud83d"`, credential.Identity{}, errClaims},
		{"\"sub\":\"a\xffb\"", credential.Identity{}, errClaims},
		{"\"sub\":\"a\nb\"", credential.Identity{}, errClaims}, // JSON has no bare line break in a text
		{`"sub":"u","x":` + nested(maxDepth-1), id("u", ""), nil},
		{`"sub":"u","x":` + nested(maxDepth), credential.Identity{}, errClaims},
		{`"sub":"u"} {"x":1`, credential.Identity{}, errClaims},
		{`"sub":"u"}, {"x":1`, credential.Identity{}, errClaims},
	} {
		t.Run(c.claims[:min(len(c.claims), 40)], func(t *testing.T) {
			token := sign(hs256, `{`+expires+`,`+c.claims+`}`)
			wantVerify(t, newVerifier(t, goodOptions()), token, c.id, c.want)
		})
	}
}

func TestVerifyFollowsClaimPathsIntoObjects(t *testing.T) {
	o := goodOptions()
	o.UserClaim, o.PlanClaim = "app.user.id", "app.plan"
	v := newVerifier(t, o)
	id := func(user, plan string) credential.Identity {
		return credential.Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for claims, c := range map[string]struct {
		id   credential.Identity
		want *credential.Error
	}{
		`"app":{"user":{"id":"u"},"plan":"pro"}`:           {id("u", "pro"), nil},
		`"app":{"user":{"id":"u"}}`:                        {id("u", ""), nil},
		`"app":{"user":{"id":"u"},"plan":null}`:            {id("u", ""), nil},
		`"app":{"user":{"id":"u"},"plan":""}`:              {id("u", ""), nil},
		`"app":{"user":{"id":"u"}},"sub":"v","plan":"pro"`: {id("u", ""), nil},
		`"sub":"u"`:                                       {credential.Identity{}, errNoUser},
		`"app":{}`:                                        {credential.Identity{}, errNoUser},
		`"app":{"user":{"ID":"u"}}`:                       {credential.Identity{}, errNoUser},
		`"App":{"user":{"id":"u"}}`:                       {credential.Identity{}, errNoUser},
		`"app.user.id":"u"`:                               {credential.Identity{}, errNoUser},
		`"app":{"user":"u"}`:                              {credential.Identity{}, errUser},
		`"app":[{"user":{"id":"u"}}]`:                     {credential.Identity{}, errUser},
		`"app":null`:                                      {credential.Identity{}, errNoUser},
		`"app":{"user":null}`:                             {credential.Identity{}, errNoUser},
		`"app":{"user":{"id":null}}`:                      {credential.Identity{}, errNoUser},
		`"app":{"user":{"id":7}}`:                         {credential.Identity{}, errUser},
		`"app":{"user":{"id":"u"},"plan":{}}`:             {credential.Identity{}, errPlan},
		`"app":{"user":{"id":"u","id":"v"}}`:              {credential.Identity{}, errClaims},
		`"app":{"user":{"id":"u"}},"app":{"user":{}}`:     {credential.Identity{}, errClaims},
		`"app":{"user":{"id":"u"},"user":{"id":"v"}}`:     {credential.Identity{}, errClaims},
		`"app":{"user":{"id":"u"},"\u0070lan":"","plan":`: {credential.Identity{}, errClaims},
	} {
		t.Run(claims, func(t *testing.T) {
			wantVerify(t, v, sign(hs256, `{`+expires+`,`+claims+`}`), c.id, c.want)
		})
	}
	o.UserClaim, o.PlanClaim = "sub", "sub.plan"
	wantVerify(t, newVerifier(t, o), sign(hs256, `{"sub":"u",`+expires+`}`), credential.Identity{}, errPlan)
	// Some issuers write null for an object that a user does not have.
	o.UserClaim, o.PlanClaim = "sub", "metadata.app.plan"
	for _, metadata := range []string{`null`, `{}`, `{"app":null}`, `{"app":{"plan":null}}`} {
		wantVerify(t, newVerifier(t, o), sign(hs256, `{"sub":"u",`+expires+`,"metadata":`+metadata+`}`), id("u", ""), nil)
	}
	for _, metadata := range []string{`"pro"`, `[]`, `7`, `false`, `{"app":"pro"}`, `{"app":[null]}`} {
		wantVerify(t, newVerifier(t, o), sign(hs256, `{"sub":"u",`+expires+`,"metadata":`+metadata+`}`), credential.Identity{}, errPlan)
	}
}

// Issuers that want an unambiguous name for a claim use a URL, which has dots.
func TestVerifyReadsClaimNamesWithDots(t *testing.T) {
	id := func(user, plan string) credential.Identity {
		return credential.Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for _, c := range []struct {
		user, plan string // paths
		claims     string
		id         credential.Identity
		want       *credential.Error
	}{
		{"", `https://example\.com/plan`, `"sub":"u","https://example.com/plan":"pro"`, id("u", "pro"), nil},
		{"", `https://example\.com/plan`, `"sub":"u","https://example":{"com/plan":"pro"}`, id("u", ""), nil},
		{`https://example\.com/user\.id`, "", `"https://example.com/user.id":"u"`, id("u", ""), nil},
		{`https://issuer\.example/claims.user`, "", `"https://issuer.example/claims":{"user":"u"}`, id("u", ""), nil},
		{`issuer\.example.user`, `issuer\.example.plan`, `"issuer.example":{"user":"u","plan":"pro"}`, id("u", "pro"), nil},
		{`issuer\.example.user`, "", `"issuer":{"example":{"user":"u"}}`, credential.Identity{}, errNoUser},
		{`app.user`, "", `"app.user":"u"`, credential.Identity{}, errNoUser},
		{`app\.user`, "", `"app":{"user":"u"}`, credential.Identity{}, errNoUser},
		{`a\\b`, "", `"a\\b":"u"`, id("u", ""), nil},
		{`a\\.b`, "", `"a\\":{"b":"u"}`, id("u", ""), nil},
		{`a\\\.b`, "", `"a\\.b":"u"`, id("u", ""), nil},
	} {
		o := goodOptions()
		o.UserClaim, o.PlanClaim = c.user, c.plan
		t.Run(c.user+" "+c.plan+" "+c.claims, func(t *testing.T) {
			wantVerify(t, newVerifier(t, o), sign(hs256, `{`+expires+`,`+c.claims+`}`), c.id, c.want)
		})
	}
}

func TestVerifyChecksIssuerAndAudience(t *testing.T) {
	const issuer, audience = "https://issuer.example", "analysis"
	for _, c := range []struct {
		issuer, audience string
		claims           string
		want             *credential.Error
	}{
		{issuer, "", `"iss":"https://issuer.example"`, nil},
		{issuer, "", `"iss":"https://issuer.example/"`, errIssuer},
		{issuer, "", `"iss":"https://ISSUER.example"`, errIssuer},
		{issuer, "", `"iss":"https://issuer.example.evil"`, errIssuer},
		{issuer, "", `"iss":["https://issuer.example"]`, errIssuer},
		{issuer, "", `"ISS":"https://issuer.example"`, errIssuer},
		{issuer, "", `"iss":""`, errIssuer},
		{issuer, "", `"iss":null`, errIssuer},
		{issuer, "", `"iss":7`, errIssuer},
		{issuer, "", `"x":1`, errIssuer},
		{"", audience, `"aud":"analysis"`, nil},
		{"", audience, `"aud":["analysis"]`, nil},
		{"", audience, `"aud":["other","analysis"]`, nil},
		{"", audience, `"aud":"other"`, errAudience},
		{"", audience, `"aud":"Analysis"`, errAudience},
		{"", audience, `"aud":"analysis other"`, errAudience},
		{"", audience, `"aud":[]`, errAudience},
		{"", audience, `"aud":""`, errAudience},
		{"", audience, `"aud":[""]`, errAudience},
		{"", audience, `"aud":["analysis",7]`, errAudience},
		{"", audience, `"aud":{"analysis":1}`, errAudience},
		{"", audience, `"aud":null`, errAudience},
		{"", audience, `"aud":7`, errAudience},
		{"", audience, `"AUD":"analysis"`, errAudience},
		{"", audience, `"x":1`, errAudience},
		{issuer, audience, `"iss":"https://issuer.example","aud":"analysis"`, nil},
		{issuer, audience, `"iss":"https://issuer.example","aud":"other"`, errAudience},
		{issuer, audience, `"iss":"other","aud":"analysis"`, errIssuer},
	} {
		t.Run(c.claims, func(t *testing.T) {
			o := goodOptions()
			o.Issuer, o.Audience = c.issuer, c.audience
			_, err := newVerifier(t, o).Verify(t.Context(), sign(hs256, `{"sub":"u",`+expires+`,`+c.claims+`}`))
			if got, _ := reasonOf(err).(*credential.Error); got != c.want {
				t.Errorf("got error %v, want: %v", err, c.want)
			}
		})
	}
}

func TestVerifyReadsOrganisation(t *testing.T) {
	o := goodOptions()
	o.OrgClaim = "app.org"
	v := newVerifier(t, o)
	id := func(org string) credential.Identity {
		return credential.Identity{User: "u", Org: org, Expires: noon.Add(time.Minute)}
	}
	for claims, c := range map[string]struct {
		id   credential.Identity
		want *credential.Error
	}{
		`"app":{"org":"acme"}`:                             {id("acme"), nil},
		`"app":{"org":"Zoë & Söhne / 1"}`:                  {id("Zoë & Söhne / 1"), nil},
		`"app":{"org":"` + strings.Repeat("é", 128) + `"}`: {id(strings.Repeat("é", 128)), nil},
		`"app":{}`:                    {id(""), nil},
		`"app":{"org":null}`:          {id(""), nil},
		`"app":{"org":""}`:            {id(""), nil},
		`"app":null`:                  {id(""), nil},
		`"org":"acme"`:                {id(""), nil},
		`"app":{"org":7}`:             {credential.Identity{}, errOrg},
		`"app":{"org":false}`:         {credential.Identity{}, errOrg},
		`"app":{"org":["acme"]}`:      {credential.Identity{}, errOrg},
		`"app":{"org":{"id":"acme"}}`: {credential.Identity{}, errOrg},
		`"app":"acme"`:                {credential.Identity{}, errOrg},
		`"app":{"org":"a\u001fb"}`:    {credential.Identity{}, errOrg},
		`"app":{"org":"a\u2028b"}`:    {credential.Identity{}, errOrg},
		`"app":{"org":"` + strings.Repeat("x", 257) + `"}`: {credential.Identity{}, errOrg},
		`"app":{"org":"acme","org":"acme"}`:                {credential.Identity{}, errClaims},
	} {
		t.Run(claims[:min(len(claims), 40)], func(t *testing.T) {
			wantVerify(t, v, sign(hs256, `{"sub":"u",`+expires+`,`+claims+`}`), c.id, c.want)
		})
	}
	// Without an OrgClaim, whatever is there means nothing.
	wantVerify(t, newVerifier(t, goodOptions()), sign(hs256, `{"sub":"u","org":7,"app":{"org":7},`+expires+`}`), id(""), nil)
	o.OrgClaim = "app..org"
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "org claim") {
		t.Errorf("a bad path of a claim: error %v", err)
	}
}

func TestVerifyReadsAnchor(t *testing.T) {
	o := goodOptions()
	o.AnchorClaim = "app.since"
	v := newVerifier(t, o)
	id := func(anchor string) credential.Identity {
		return credential.Identity{User: "u", Anchor: anchor, Expires: noon.Add(time.Minute)}
	}
	for claims, want := range map[string]string{
		`"app":{"since":15}`:           "15",
		`"app":{"since":"15"}`:         "15",
		`"app":{"since":1710495000.5}`: "1710495000.5",
		`"app":{"since":"2024-03-15"}`: "2024-03-15",
		`"app":{"since":null}`:         "",
		`"app":{"since":""}`:           "",
		`"app":{}`:                     "",
		`"since":15`:                   "",
		// Nobody is refused for it.
		`"app":{"since":true}`:       "true",
		`"app":{"since":["15"]}`:     `["15"]`,
		`"app":{"since":{"day":15}}`: `{"day":15}`,
		`"app":15`:                   "false",
	} {
		wantVerify(t, v, sign(hs256, `{"sub":"u",`+expires+`,`+claims+`}`), id(want), nil)
	}
	// Without an AnchorClaim, whatever is there means nothing.
	wantVerify(t, newVerifier(t, goodOptions()), sign(hs256, `{"sub":"u","anchor":15,"app":{"since":7},`+expires+`}`), id(""), nil)
	o.AnchorClaim = "app..since"
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "anchor claim") {
		t.Errorf("a bad path of a claim: error %v", err)
	}
}
