package config

import (
	"fmt"
	"testing"
)

// TestJWKS: which URLs keys can come from, alone or beside other keys.
func TestJWKS(t *testing.T) {
	const https = "https://issuer.example/keys"
	for _, c := range []struct{ url, others, algorithms string }{
		{https, "", "RS256"},
		{https, "", "RS256, PS512, ES256, ES384, ES512, EdDSA"},
		{"https://issuer.example:8443/keys?policy=b2c", "", "RS256"},
		{"https://10.0.0.1", "", "RS256"},
		{"http://localhost:8081/realms/a/protocol/openid-connect/certs", "", "RS256"},
		{"http://127.0.0.1/", "", "RS256"},
		{"http://127.8.8.8:1", "", "RS256"},
		{"http://[::1]:8081/keys", "", "RS256"},
		{https, "secret: 0123456789abcdef0123456789abcdef, ", "HS256, RS256"},
		{https, "public_key_file: key.pem, ", "ES256"}, // on P-256
		{https, "public_key_file: key.pem, ", "RS256, ES256, EdDSA"},
		{"${NONE:-}", "secret: 0123456789abcdef0123456789abcdef, ", "HS256"},
		{"${NONE:-}", "public_key_file: key.pem, ", "ES256"},
	} {
		text := fmt.Sprintf(`auth: { jwt: { jwks_url: "%s", %salgorithms: [%s] } }
default_plan: free
plans: { free: {} }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: /, upstream: api }]
`, c.url, c.others, c.algorithms)
		cfg, err := Parse("testdata/gateway.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Error(err)
			continue
		}
		want := c.url
		if want == "${NONE:-}" {
			want = ""
		}
		if got := cfg.Auth.JWT.JWKSURL; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
