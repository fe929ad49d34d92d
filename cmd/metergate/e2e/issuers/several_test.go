package issuers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// threeIssuers is auth.jwt with two issuers that publish their keys, and one with a secret.
func threeIssuers(a, b *gatewaytest.KeyServer) string {
	return fmt.Sprintf(`- { name: web, issuer: "https://web.example/", jwks_url: %q, algorithms: [ES256] }
- { name: mobile, issuer: "https://mobile.example/", jwks_url: %q, algorithms: [ES256], audience: analysis, claims: { user: uid, plan: app.plan } }
- { issuer: tools, secret: %q }`, a.URL, b.URL, secret)
}

// A gateway takes the tokens of several issuers, each by its own keys and rules. One whose key
// server is down does not keep it from serving the users of the others.
func TestSeveralIssuers(t *testing.T) {
	upstream, a, b := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t), gatewaytest.StartKeyServer(t)
	b.Down.Store(true)
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, threeIssuers(a, b)))
	testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() bool {
		status, body := gatewaytest.Get(g.Admin+"/readyz", "")
		return status == 200 && strings.Contains(body, `"jwks_url web":"ok"`) && strings.Contains(body, `"jwks_url mobile":"`+b.URL+` answers 502`)
	})
	web := a.Sign(jwt.MapClaims{"iss": "https://web.example/", "sub": "u-web", "plan": "enterprise"})
	mobile := b.Sign(jwt.MapClaims{"iss": "https://mobile.example/", "aud": "analysis", "uid": "u-mobile", "app": map[string]any{"plan": "enterprise"}})
	tools := signToken(`{"alg":"HS256"}`, `{"iss":"tools","sub":"u-tools"}`, hs256)
	wantUsage(t, g.URL, web, "enterprise")
	wantUsage(t, g.URL, tools, "free")
	if status, body := gatewaytest.Get(g.URL+"/usage", mobile); status != 503 {
		t.Errorf("a token whose issuer's keys are not there: %d %s", status, body)
	}
	b.Down.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "the keys of mobile are there", func() bool {
		_, body := gatewaytest.Get(g.Admin+"/readyz", "")
		return strings.Contains(body, `"jwks_url mobile":"ok"`)
	})
	wantUsage(t, g.URL, mobile, "enterprise")

	for name, token := range map[string]string{
		"web's key for mobile":        a.Sign(jwt.MapClaims{"iss": "https://mobile.example/", "aud": "analysis", "uid": "u-mobile"}),
		"mobile's key for web":        b.Sign(jwt.MapClaims{"iss": "https://web.example/", "sub": "u-web"}),
		"web's key for the secret's":  a.Sign(jwt.MapClaims{"iss": "tools", "sub": "u-tools"}),
		"the secret for web":          signToken(`{"alg":"HS256"}`, `{"iss":"https://web.example/","sub":"u-web"}`, hs256),
		"mobile without its audience": b.Sign(jwt.MapClaims{"iss": "https://mobile.example/", "uid": "u-mobile"}),
		"no issuer":                   a.Sign(jwt.MapClaims{"sub": "u-web"}),
		"a stranger":                  a.Sign(jwt.MapClaims{"iss": "https://stranger.example/", "sub": "u-web"}),
	} {
		if status, body := gatewaytest.Get(g.URL+"/usage", token); status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	g.WaitForText(`auth.jwt[1].audience is \"analysis\"`)
	g.WaitForText(`iss is \"https://stranger.example/\"; no entry of auth.jwt has this issuer`)
	g.WaitForText(`"issuer":"web","user":"u-web"`)
	g.WaitForText(`"issuer":"tools","user":"u-tools"`)
	_, metrics := gatewaytest.Get(g.Admin+"/metrics", "")
	for _, series := range []string{
		`metergate_tokens_total{issuer="web",outcome="accepted"} 1`,
		`metergate_tokens_total{issuer="web",outcome="refused"} 2`,
		`metergate_tokens_total{issuer="mobile",outcome="unavailable"} 1`,
		`metergate_tokens_total{issuer="mobile",outcome="accepted"} 1`,
		`metergate_tokens_total{issuer="mobile",outcome="refused"} 2`,
		`metergate_tokens_total{issuer="tools",outcome="accepted"} 1`,
	} {
		if !strings.Contains(metrics, series+"\n") {
			t.Errorf("there is no series %s", series)
		}
	}
}

// A reload changes one issuer and leaves the others as they are: with their keys, although the key
// server is down. It is refused if the keys of a new one cannot be fetched.
func TestReloadKeepsKeysOfOtherIssuers(t *testing.T) {
	upstream, a, b := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t), gatewaytest.StartKeyServer(t)
	alone := fmt.Sprintf("{ issuer: \"https://web.example/\", jwks_url: %q, algorithms: [ES256] }", a.URL)
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, alone))
	testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() bool {
		status, _ := gatewaytest.Get(g.Admin+"/readyz", "")
		return status == 200
	})
	web := a.Sign(jwt.MapClaims{"iss": "https://web.example/", "sub": "u-web"})
	mobile := b.Sign(jwt.MapClaims{"iss": "https://mobile.example/", "aud": "analysis", "uid": "u-mobile"})
	wantUsage(t, g.URL, web, "free")
	wantUsage(t, g.URL, mobile, "")
	a.Down.Store(true)
	reload := func(jwt string, want int) string {
		t.Helper()
		g.Save(authYAML(upstream.URL, jwt))
		status, body := g.Reload(gatewaytest.AdminToken)
		if status != want {
			t.Fatalf("reload: %d %s", status, body)
		}
		return body
	}
	b.Down.Store(true)
	if body := reload(threeIssuers(a, b), 422); !strings.Contains(body, "auth.jwt[1].jwks_url: its keys cannot be fetched") {
		t.Errorf("the reload says %s", body)
	}
	wantUsage(t, g.URL, web, "free")
	b.Down.Store(false)
	reload(threeIssuers(a, b), 200)
	wantUsage(t, g.URL, web, "free")
	wantUsage(t, g.URL, mobile, "free")
	reload(strings.Replace(threeIssuers(a, b), "audience: analysis", "audience: other", 1), 200)
	wantUsage(t, g.URL, web, "free")
	wantUsage(t, g.URL, mobile, "")
	reload(alone, 200)
	wantUsage(t, g.URL, web, "free")
	wantUsage(t, g.URL, mobile, "")
	if n := a.Requests.Load(); n != 1 {
		t.Errorf("the key server of web was asked %d times, want once", n)
	}
}
