package jwtauth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/proxy/credential"
	"metergate/proxy/jwtauth/jwtrules"
)

func TestPlansMapValuesOfTheClaim(t *testing.T) {
	gold := []PlanOf{{"gold", "pro"}, {"silver", "basic"}, {"Gold", "enterprise"}, {"pro", "free"}}
	rest := append([]PlanOf{{jwtrules.AnyValue, "other"}}, gold...) // tried last, although it comes first
	for _, c := range []struct {
		plans         []PlanOf
		claim         string // empty: there is none
		plan, unknown string
		want          *credential.Error
	}{
		// A text.
		{gold, `"gold"`, "pro", "", nil},
		{gold, `"silver"`, "basic", "", nil},
		{gold, `"Gold"`, "enterprise", "", nil},
		{gold, `"g\u006fld"`, "pro", "", nil},
		{gold, `"pro"`, "free", "", nil}, // a plan's own name is a value like any other
		{gold, `"enterprise"`, "", "enterprise", nil},
		{gold, `"GOLD"`, "", "GOLD", nil},
		{gold, `" gold"`, "", " gold", nil},
		{gold, `"*"`, "", "*", nil},
		{rest, `"gold"`, "pro", "", nil},
		{rest, `"bronze"`, "other", "", nil},
		{rest, `"*"`, "other", "", nil},
		// Nothing.
		{gold, ``, "", "", nil},
		{gold, `null`, "", "", nil},
		{gold, `""`, "", "", nil},
		{gold, `[]`, "", "", nil},
		{gold, `[""]`, "", "", nil},
		{rest, ``, "", "", nil},
		{rest, `null`, "", "", nil},
		{rest, `""`, "", "", nil},
		{rest, `[]`, "", "", nil},
		{rest, `["",""]`, "", "", nil},
		// A list: the order is that of the map.
		{gold, `["silver"]`, "basic", "", nil},
		{gold, `["silver","gold"]`, "pro", "", nil},
		{gold, `["gold","silver"]`, "pro", "", nil},
		{gold, `["x","Gold","y","silver"]`, "basic", "", nil},
		{gold, `["x","","y"]`, "", "", nil},
		{gold, `["silver","silver"]`, "basic", "", nil},
		{rest, `["x","silver"]`, "basic", "", nil},
		{rest, `["x","y"]`, "other", "", nil},
		// Anything else.
		{gold, `7`, "", "", errPlans},
		{gold, `true`, "", "", errPlans},
		{gold, `false`, "", "", errPlans},
		{gold, `{}`, "", "", errPlans},
		{gold, `{"gold":true}`, "", "", errPlans},
		{gold, `["gold",7]`, "", "", errPlans},
		{gold, `["gold",null]`, "pro", "", nil},
		{gold, `[null,"gold"]`, "pro", "", nil},
		{gold, `[null]`, "", "", nil},
		{rest, `[null,null]`, "", "", nil},
		{rest, `[null,"x"]`, "other", "", nil},
		{rest, `[["gold"]]`, "", "", errPlans},
		{gold, `["gold",{}]`, "", "", errPlans},
		{gold, `[["gold"]]`, "", "", errPlans},
		{rest, `7`, "", "", errPlans},
		{rest, `{"gold":true}`, "", "", errPlans},
		// Without a map, a value is the name of a plan.
		{nil, `"gold"`, "gold", "", nil},
		{nil, `["gold"]`, "", "", errPlan},
	} {
		t.Run(fmt.Sprint(len(c.plans), c.claim), func(t *testing.T) {
			o := goodOptions()
			o.Plans, o.PlanClaim = c.plans, "app.roles"
			claims := `{"sub":"u",` + expires
			if c.claim != "" {
				claims += `,"app":{"roles":` + c.claim + `}`
			}
			v, token := newVerifier(t, o), sign(hs256, claims+`}`)
			for range 2 {
				got, err := v.Verify(t.Context(), token)
				if c.want != nil {
					if reasonOf(err) != error(c.want) || got != (credential.Identity{}) {
						t.Errorf("got %+v and %v, want %v", got, err, c.want)
					}
				} else if err != nil || got.Plan != c.plan || got.UnknownPlan != c.unknown {
					t.Errorf("got the plan %q, unknown %q and %v, want %q and %q", got.Plan, got.UnknownPlan, err, c.plan, c.unknown)
				}
			}
		})
	}
}

// A text that means no plan is cut before it is remembered, and never within a character.
func TestUnknownPlanIsCut(t *testing.T) {
	o := goodOptions()
	o.Plans = []PlanOf{{"gold", "pro"}}
	id, err := newVerifier(t, o).Verify(t.Context(), sign(hs256, `{"sub":"u","plan":"x`+strings.Repeat("é", 5000)+`",`+expires+`}`))
	if want := "x" + strings.Repeat("é", 49); err != nil || id.Plan != "" || id.UnknownPlan != want {
		t.Errorf("got %q, %q and %v", id.Plan, id.UnknownPlan, err)
	}
}

// 200 groups are as many as Entra writes into a token.
func TestPlanFromManyGroups(t *testing.T) {
	group := func(i int) string { return fmt.Sprintf("8f14e45f-ceea-467f-a1d0-%012d", i) }
	o := goodOptions()
	o.PlanClaim, o.Plans = "groups", []PlanOf{{group(7), "seven"}, {group(199), "last"}, {group(500), "not there"}}
	var groups []string
	for i := range 200 {
		groups = append(groups, `"`+group(199-i)+`"`)
	}
	token := sign(hs256, `{"sub":"u","groups":[`+strings.Join(groups, ",")+`],`+expires+`}`)
	if len(token) < 10<<10 {
		t.Fatalf("the token has only %d bytes", len(token))
	}
	if id, err := newVerifier(t, o).Verify(t.Context(), token); err != nil || id.Plan != "seven" {
		t.Errorf("got %q, %v", id.Plan, err)
	}
}

func TestUserFromNumber(t *testing.T) {
	for claim, want := range map[string]struct {
		user string
		want *credential.Error
	}{
		`"u"`:                                {"u", nil},
		`"17"`:                               {"17", nil},
		`17`:                                 {"17", nil},
		`0`:                                  {"0", nil},
		`-17`:                                {"-17", nil},
		`9007199254740993`:                   {"9007199254740993", nil}, // 2^53 + 1
		`18446744073709551617`:               {"18446744073709551617", nil},
		`1` + strings.Repeat("0", 255):       {"1" + strings.Repeat("0", 255), nil},
		`1` + strings.Repeat("0", 256):       {"", errUserNumber},
		`17.0`:                               {"", errUserNumber},
		`17.5`:                               {"", errUserNumber},
		`1.7e1`:                              {"", errUserNumber},
		`17e0`:                               {"", errUserNumber},
		`-0`:                                 {"", errUserNumber},
		`1E2`:                                {"", errUserNumber},
		`true`:                               {"", errUser},
		`[17]`:                               {"", errUser},
		`{"id":17}`:                          {"", errUser},
		`""`:                                 {"", errUser},
		`null`:                               {"", errNoUser},
		`017`:                                {"", errClaims},
		`+17`:                                {"", errClaims},
		`0x11`:                               {"", errClaims},
		`17` + "\u200b":                      {"", errClaims},
		`"` + strings.Repeat("1", 257) + `"`: {"", errUser},
	} {
		o := goodOptions()
		o.UserFromNumber = true
		token := sign(hs256, `{"sub":`+claim+`,`+expires+`}`)
		wantVerify(t, newVerifier(t, o), token, credential.Identity{User: want.user, Expires: noon.Add(time.Minute)}, want.want)
		if without := newVerifier(t, goodOptions()); !strings.HasPrefix(claim, `"`) {
			if _, err := without.Verify(t.Context(), token); err == nil {
				t.Errorf("%s is a user without UserFromNumber", claim)
			}
		}
	}
}

func TestRequiredClaims(t *testing.T) {
	for name, c := range map[string]struct {
		require map[string][]string
		claims  string
		met     bool
	}{
		"a value":                    {map[string][]string{"azp": {"web", "mobile"}}, `"azp":"mobile"`, true},
		"another value":              {map[string][]string{"azp": {"web", "mobile"}}, `"azp":"other"`, false},
		"a part of a value":          {map[string][]string{"azp": {"web"}}, `"azp":"we"`, false},
		"a longer value":             {map[string][]string{"azp": {"web"}}, `"azp":"web2"`, false},
		"in another case":            {map[string][]string{"azp": {"web"}}, `"azp":"Web"`, false},
		"two words":                  {map[string][]string{"azp": {"web"}}, `"azp":"web mobile"`, false},
		"absent":                     {map[string][]string{"azp": {"web"}}, `"x":1`, false},
		"null":                       {map[string][]string{"azp": {"web"}}, `"azp":null`, false},
		"null, and null is a value":  {map[string][]string{"azp": {"null"}}, `"azp":null`, false},
		"empty":                      {map[string][]string{"azp": {"web"}}, `"azp":""`, false},
		"an object":                  {map[string][]string{"azp": {"web"}}, `"azp":{"web":true}`, false},
		"a list":                     {map[string][]string{"amr": {"mfa", "hwk"}}, `"amr":["pwd","mfa"]`, true},
		"a list without it":          {map[string][]string{"amr": {"mfa"}}, `"amr":["pwd"]`, false},
		"an empty list":              {map[string][]string{"amr": {"mfa"}}, `"amr":[]`, false},
		"a list in a list":           {map[string][]string{"amr": {"mfa"}}, `"amr":[["mfa"]]`, false},
		"true":                       {map[string][]string{"email_verified": {"true"}}, `"email_verified":true`, true},
		"true, as a text":            {map[string][]string{"email_verified": {"true"}}, `"email_verified":"true"`, true},
		"false":                      {map[string][]string{"email_verified": {"true"}}, `"email_verified":false`, false},
		"a number":                   {map[string][]string{"acr": {"1", "2"}}, `"acr":2`, true},
		"another number":             {map[string][]string{"acr": {"1", "2"}}, `"acr":3`, false},
		"within an object":           {map[string][]string{"firebase.sign_in_provider": {"password"}}, `"firebase":{"sign_in_provider":"password"}`, true},
		"through a text":             {map[string][]string{"firebase.sign_in_provider": {"password"}}, `"firebase":"password"`, false},
		"through a text, and false":  {map[string][]string{"firebase.x": {"false"}}, `"firebase":"password"`, false},
		"a dot in a name":            {map[string][]string{`https://a\.b/c`: {"x"}}, `"https://a.b/c":"x"`, true},
		"a scope":                    {map[string][]string{"scope": {"analyze"}}, `"scope":"openid analyze profile"`, true},
		"a scope alone":              {map[string][]string{"scope": {"analyze"}}, `"scope":"analyze"`, true},
		"a part of a scope":          {map[string][]string{"scope": {"analyze"}}, `"scope":"openid analyze:all"`, false},
		"the scp of Entra":           {map[string][]string{"scp": {"analyze"}}, `"scp":"openid analyze"`, true},
		"the scp of Okta":            {map[string][]string{"scp": {"analyze"}}, `"scp":["openid","analyze"]`, true},
		"several":                    {map[string][]string{"azp": {"web"}, "scope": {"a"}}, `"azp":"web","scope":"a b"`, true},
		"several, one of them unmet": {map[string][]string{"azp": {"web"}, "scope": {"a"}}, `"azp":"web","scope":"b"`, false},
	} {
		o := goodOptions()
		o.Require = c.require
		var want *credential.Error
		if !c.met {
			want = errRequired
		}
		t.Run(name, func(t *testing.T) {
			wantVerify(t, newVerifier(t, o), sign(hs256, `{"sub":"u",`+c.claims+`,`+expires+`}`), credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		})
	}
	o := goodOptions()
	o.Require = map[string][]string{"azp": {"web", "mobile"}, "app.tier": {"a"}}
	for claims, want := range map[string]string{
		`"app":{"tier":"a"},"azp":"x"`: `the claim azp is "x"; auth.jwt.require wants one of [web, mobile]`,
		`"azp":"x"`:                    `there is no claim app.tier; auth.jwt.require wants one of [a]`,
		`"app":{"tier":{"a":1}}`:       `the claim app.tier is an object; auth.jwt.require wants one of [a]`,
	} {
		_, err := newVerifier(t, o).Verify(t.Context(), sign(hs256, `{"sub":"u",`+claims+`,`+expires+`}`))
		if want = errRequired.Error() + ": " + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestNewIssuerRefusesBadPlansAndRequirements(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`plans: the value "" and its plan "pro" must not be empty`: func(o *Options) { o.Plans = []PlanOf{{"", "pro"}} },
		`plans: the value "a" and its plan "" must not be empty`:   func(o *Options) { o.Plans = []PlanOf{{"a", ""}} },
		`plans: the value "a" is given twice`:                      func(o *Options) { o.Plans = []PlanOf{{"a", "pro"}, {"b", "pro"}, {"a", "free"}} },
		`plans: the value "*" is given twice`:                      func(o *Options) { o.Plans = []PlanOf{{"*", "pro"}, {"*", "free"}} },
		`required claim "a..b": must be the name of a claim`:       func(o *Options) { o.Require = map[string][]string{"a..b": {"x"}} },
		`required claim "a": list the values`:                      func(o *Options) { o.Require = map[string][]string{"a": nil} },
		`required claim "b": list the values`:                      func(o *Options) { o.Require = map[string][]string{"b": {"x", ""}} },
	} {
		o := goodOptions()
		change(&o)
		if _, err := NewIssuer(o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
