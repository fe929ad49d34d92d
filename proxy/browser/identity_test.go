package browser_test

import (
	"fmt"
	"testing"

	"metergate/proxy/browser/browsertest"
)

// When a token is refreshed, the numbers stay on the screen and the stream stays open, whatever else the
// token claims. A token that may be another user's takes the numbers away at once, before the gateway has
// answered.
func testRefreshedTokenKeepsNumbers(t *testing.T, b *browsertest.Browser, g *fakeGateway) {
	tab := openPage(t, b, g)
	for _, test := range []struct {
		name, user, org, before, after string
		keeps                          bool
	}{
		{"Clerk's fva", "u1", "", `{"iss":"i","sub":"u1","fva":[3,-1]}`, `{"iss":"i","sub":"u1","fva":[9,2]}`, true},
		{"times and ids", "u1", "", `{"iat":1,"exp":2,"jti":"a","sub":"u1"}`, `{"sub":"u1","iat":3,"exp":4,"jti":"b","auth_time":3}`, true},
		{"a name", "alice", "", `{"sub":"alice","name":"alice","nick":"Al"}`, `{"sub":"alice","name":"Alice B"}`, true},
		{"roles, and a new claim", "u1", "", `{"sub":"u1","roles":["a","b"]}`, `{"sub":"u1","roles":["b"],"amr":["mfa"]}`, true},
		{"a number", "17", "", `{"sub":"x","id":17,"exp":1}`, `{"sub":"x","id":17,"exp":2}`, true},
		{"the user in another claim", "u1", "", `{"sub":"app","app":{"user":"u1"},"jti":1}`, `{"sub":"app","app":{"user":"u1"},"jti":2}`, true},
		{"an organisation", "u1", "acme", `{"sub":"u1","org_id":"acme","fva":[1]}`, `{"sub":"u1","org_id":"acme","fva":[2]}`, true},

		{"another subject", "u1", "", `{"sub":"u1"}`, `{"sub":"u2"}`, false},
		{"another issuer", "u1", "", `{"iss":"i","sub":"u1"}`, `{"iss":"j","sub":"u1"}`, false},
		{"another organisation", "u1", "acme", `{"sub":"u1","team":"acme"}`, `{"sub":"u1","team":"beta"}`, false},
		{"no organisation any more", "u1", "acme", `{"sub":"u1","o":{"id":"acme"}}`, `{"sub":"u1"}`, false},
		{"an organisation now", "u1", "", `{"sub":"u1"}`, `{"sub":"u1","o":{"id":"acme"}}`, false},
		{"another user of one subject", "u1", "", `{"sub":"app","app":{"user":"u1"}}`, `{"sub":"app","app":{"user":"u2"}}`, false},
		{"the user in neither token", "key-owner", "", `{"sub":"u1"}`, `{"sub":"u1","x":1}`, false},
	} {
		extra := []any{"user", test.user}
		if test.org != "" {
			extra = append(extra, "org", test.org)
		}
		g.set(5, extra...)
		tab.Eval(fmt.Sprintf("void (window.token = '%s', window.client = createUsageClient({ getToken: () => token, timing: %s }))", fakeToken(test.before), fast), nil)
		tab.Want("client.connection", "live")
		_, streams := g.streams()
		tab.Eval(fmt.Sprintf("(window.seen = [], client.subscribe(s => seen.push(s)), window.token = '%s', client.refresh().then(() => 0))", fakeToken(test.after)), nil)
		if got := tab.String("!seen.includes(null)"); got != fmt.Sprint(test.keeps) {
			t.Errorf("%s: the numbers stay: %s, want %t", test.name, got, test.keeps)
		}
		if _, opened := g.streams(); test.keeps && opened != streams {
			t.Errorf("%s: %d streams more", test.name, opened-streams)
		}
		tab.Want("client.connection + client.current?.used", "live5")
		tab.Eval("client.close()", nil)
	}
}
