package issuers

import (
	"fmt"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Issuers name plans in their own words, and in lists of groups or roles.
func TestPlansFromValuesAndLists(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	jwt := fmt.Sprintf("secret: %q\nclaims: { plan: \"cognito:groups\" }\nplans: { Gold: enterprise, trial: free }\nrequire: { scope: [analyze] }\nuser_from_number: true", secret)
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, jwt))
	sign := func(claims string) string { return signToken(`{"alg":"HS256"}`, claims, hs256) }
	for _, c := range []struct{ claims, plan string }{
		{`{"sub":"u","scope":"analyze","cognito:groups":["beta","trial","Gold"]}`, "enterprise"},
		{`{"sub":"u","scope":"analyze","cognito:groups":["trial"]}`, "free"},
		{`{"sub":"u","scope":"analyze","cognito:groups":"Gold"}`, "enterprise"},
		{`{"sub":"u","scope":"analyze","cognito:groups":[]}`, "free"},
		{`{"sub":"u","scope":"analyze","cognito:groups":["enterprise"]}`, "free"}, // not a value of the map
		{`{"sub":"u","scope":"analyze"}`, "free"},
		{`{"sub":"u","scope":"analyze","cognito:groups":{"Gold":1}}`, ""},
		{`{"sub":"u","scope":"openid","cognito:groups":["Gold"]}`, ""},
		{`{"sub":"u","cognito:groups":["Gold"]}`, ""},
		{`{"sub":9007199254740993,"scope":"openid analyze","cognito:groups":["Gold"]}`, "enterprise"},
		{`{"sub":17.5,"scope":"analyze"}`, ""},
	} {
		wantUsage(t, g.URL, sign(c.claims), c.plan)
	}
	g.WaitForText(`"user":"9007199254740993"`)
	g.WaitForText(`auth.jwt.require wants one of [analyze]`)
	wantUsage(t, g.URL, sign(`{"sub":"u","scope":"analyze","cognito:groups":"platinum"}`), "free")
	g.WaitForText(`"unknown_plan":"platinum"`)

	// The order of the file decides, which /admin/config keeps.
	g.Save(authYAML(upstream.URL, strings.Replace(jwt, "{ Gold: enterprise, trial: free }", "{ trial: free, Gold: enterprise }", 1)))
	if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	wantUsage(t, g.URL, sign(`{"sub":"u","scope":"analyze","cognito:groups":["beta","trial","Gold"]}`), "free")
	if shown := gatewaytest.Administer(t, g.Process, "GET", "/admin/config", ""); !strings.Contains(shown, `"plans":{"trial":"free","Gold":"enterprise"}`) {
		t.Errorf("/admin/config: %s", shown)
	}
}

// The gateway does not start with a plan that does not exist, and names the line.
func TestValueOfUnknownPlanIsRefused(t *testing.T) {
	file := t.TempDir() + "/gateway.yaml"
	testkit.WriteFile(t, file, authYAML("http://127.0.0.1:1", fmt.Sprintf("secret: %q\nplans:\n  trial: free\n  gold: pro", secret)))
	code, output := gatewaytest.Run(t, nil, "validate", "-config", file)
	if want := file + `:11: auth.jwt.plans.gold: there is no such plan, got "pro"; the plans are enterprise, free`; code != 2 || !strings.Contains(output, want) {
		t.Errorf("exit status %d, want the line %s\n%s", code, want, output)
	}
}
