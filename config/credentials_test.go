package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withAuth is a valid configuration but for what auth and cors are.
func withAuth(auth, cors string) string {
	return "auth: " + auth + cors + `
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: "POST /api/analyze", endpoint: analyze, upstream: api }]
`
}

func TestWarningsAboutCookies(t *testing.T) {
	const auth = `{ jwt: { secret: 0123456789abcdef0123456789abcdef }, cookie: { name: session, origins: ["https://app.example.com", "https://b.example:443"] } }`
	for cors, want := range map[string][]string{
		"": nil,
		"\ncors: { allowed_origins: [https://App.example.com, https://b.example], allow_credentials: true }": nil,
		"\ncors: { allowed_origins: [https://app.example.com], allow_credentials: true }":                    {"auth.cookie.origins: https://b.example is not in cors.allowed_origins"},
		"\ncors: { allowed_origins: [https://app.example.com, https://b.example] }":                          {"auth.cookie: browsers send the cookie from other origins only with cors.allow_credentials: true"},
		"\ncors: { allowed_origins: [\"*\"] }":                                                               {"auth.cookie: browsers send the cookie from other origins only with cors.allow_credentials: true"},
	} {
		cfg, err := Parse("gateway.yaml", []byte(withAuth(auth, cors)), environment)
		if err != nil {
			t.Fatal(err)
		}
		got := cfg.Warnings()
		if len(got) != len(want) || len(got) > 0 && !strings.HasPrefix(got[0], want[0]) {
			t.Errorf("%s: %q, want %q", cors, got, want)
		}
	}
}

// TestWildcardOrigins: previews may call the gateway with tokens in a header, but nobody may list all
// pages of a name as those that use a cookie or read what it gives access to.
func TestWildcardOrigins(t *testing.T) {
	const (
		tokens = `{ jwt: { secret: 0123456789abcdef0123456789abcdef } }`
		cookie = `{ jwt: { secret: 0123456789abcdef0123456789abcdef }, cookie: { name: session, origins: ["https://app.example.app"] } }`
		any    = `{ jwt: { secret: 0123456789abcdef0123456789abcdef }, cookie: { name: session, origins: ["https://app.example.app", "https://*.example.app"] } }`
	)
	for name, c := range map[string]struct{ auth, cors, want string }{
		"tokens":                  {tokens, `{ allowed_origins: ["https://*.Example.app:443"] }`, ""},
		"credentials of an API":   {tokens, `{ allowed_origins: ["https://*.example.app"], allow_credentials: true }`, ""},
		"cookie, own origin":      {cookie, `{ allowed_origins: ["https://*.example.app"] }`, ""},
		"cookie and credentials":  {cookie, `{ allowed_origins: ["https://app.example.app", "https://*.example.app"], allow_credentials: true }`, "gateway.yaml:2: cors.allowed_origins[1]: must not have a * with auth.cookie and allow_credentials"},
		"pages that may use it":   {any, `{ allowed_origins: ["https://app.example.app"] }`, "gateway.yaml:1: auth.cookie.origins[1]: must not have a *, because every page there"},
		"everybody's sites":       {tokens, `{ allowed_origins: ["https://*.vercel.app"] }`, "gateway.yaml:2: cors.allowed_origins[0]: must not allow every name below vercel.app"},
		"a * that is not a label": {tokens, `{ allowed_origins: ["https://app-*.example.app"] }`, "gateway.yaml:2: cors.allowed_origins[0]: may have one *, for the whole first label"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Parse("gateway.yaml", []byte(withAuth(c.auth, "\ncors: "+c.cors)), environment)
			switch {
			case c.want != "":
				if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v, want: %s", err, c.want)
				}
			case err != nil:
				t.Error(err)
			case cfg.CORS.AllowedOrigins[0] != "https://*.example.app":
				t.Errorf("%q", cfg.CORS.AllowedOrigins)
			}
		})
	}
}

func TestWarningsAboutExpiredKeys(t *testing.T) {
	const hash = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
	keys := ""
	for n, want := range []string{"", ":1: the API key k1 has expired on 2020-01-01, and is refused; remove its line", ":1: the API key k1 and 1 more have expired, and are refused; remove their lines"} {
		file := filepath.Join(t.TempDir(), "keys.yaml")
		if n > 0 {
			digit := string(rune('0' + n))
			keys += "- { id: k" + digit + ", hash: " + hash + digit + ", user: u, expires: 2020-01-01 }\n"
		}
		if err := os.WriteFile(file, []byte(keys+"- { id: good, hash: "+hash+"f, user: u }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := Parse("gateway.yaml", []byte(withAuth("{ api_keys: { file: "+file+" } }", "")), environment)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.Warnings(), ""); want != "" && got != file+want || want == "" && got != "" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What does not read auth does not read the file of API keys, which may be large.
func TestLoadOnlyLeavesKeyFileAlone(t *testing.T) {
	data := []byte(withAuth("{ api_keys: { file: nowhere.yaml } }", ""))
	if _, err := parseOnly("gateway.yaml", data, environment, "admin.listen"); err != nil {
		t.Error(err)
	}
	if _, err := parseOnly("gateway.yaml", data, environment, "auth", "plans"); err == nil || !strings.Contains(err.Error(), "auth.api_keys.file: cannot read this file") {
		t.Error(err)
	}
}
