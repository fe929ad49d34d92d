package issuers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
)

// secret is long enough for HS512.
var secret = strings.Repeat("0123456789abcdef", 4)

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signToken makes a token of two JSON texts, as they are. The claims get an exp in an hour.
func signToken(header, claims string, sign func(message []byte) []byte) string {
	exp := fmt.Sprintf(`{"exp":%d,`, time.Now().Add(time.Hour).Unix())
	message := encode(header) + "." + encode(exp+strings.TrimPrefix(claims, "{"))
	return message + "." + encode(string(sign([]byte(message))))
}

func hs256(message []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(message)
	return mac.Sum(nil)
}

// authYAML is a configuration whose auth.jwt has these lines.
func authYAML(upstream, jwt string) string {
	text := gatewaytest.ReloadYAML(upstream, 100)
	before, rest, _ := strings.Cut(text, "auth: ")
	_, after, _ := strings.Cut(rest, "\n")
	return before + "auth:\n  jwt:\n    " + strings.ReplaceAll(jwt, "\n", "\n    ") + "\n" + after
}

// wantUsage reads the usage with a token. An empty plan means that the token must be refused.
func wantUsage(t *testing.T, url, token, plan string) {
	t.Helper()
	status, body := gatewaytest.Get(url+"/usage", token)
	var usage struct{ Plan, Detail string }
	if err := json.Unmarshal([]byte(body), &usage); err != nil {
		t.Fatalf("GET /usage: %d %s: %v", status, body, err)
	}
	want := 200
	if plan == "" {
		want = 401
	}
	if status != want || usage.Plan != plan {
		t.Errorf("GET /usage: %d, plan %q, %s; want %d, plan %q", status, usage.Plan, usage.Detail, want, plan)
	}
}

// Auth0, Clerk and others write null for a plan that a user does not have.
func TestNullPlanIsTheDefaultPlan(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("secret: %q\nclaims: { plan: app.plan }", secret)))
	for _, c := range []struct{ claims, plan string }{
		{`{"sub":"u","app":{"plan":"enterprise"}}`, "enterprise"},
		{`{"sub":"u","app":{"plan":null}}`, "free"},
		{`{"sub":"u","app":{"plan":""}}`, "free"},
		{`{"sub":"u","app":null}`, "free"},
		{`{"sub":"u"}`, "free"},
		{`{"sub":"u","app":{"plan":7}}`, ""},
		{`{"sub":"u","app":{"plan":{"name":"enterprise"}}}`, ""},
		{`{"sub":"u","app":"enterprise"}`, ""},
		{`{"sub":null,"app":{"plan":"free"}}`, ""},
	} {
		wantUsage(t, g.URL, signToken(`{"alg":"HS256"}`, c.claims, hs256), c.plan)
	}
}
