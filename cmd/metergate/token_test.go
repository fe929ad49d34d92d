package main

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/app"
	"metergate/config"
	"metergate/proxy/jwtauth/jwtrules"
	"metergate/quota/testkit"
)

// jwtConfig returns a configuration that has only auth.jwt.
func jwtConfig(change func(*config.JWT)) *config.Config {
	cfg := &config.Config{Auth: config.Auth{JWT: make([]config.JWT, 1)}}
	jwt := &cfg.Auth.JWT[0]
	jwt.Secret, jwt.Algorithms = testkit.Secret, []string{"HS256"}
	jwt.Claims = config.Claims{User: "sub", Plan: "plan"}
	if change != nil {
		change(jwt)
	}
	return cfg
}

// A signed token has the user and the plan in the claims that the configuration names, and
// a gateway with the same configuration accepts it, even without leeway.
func TestSignTokenFollowsConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*config.JWT)
		plan        string
		alg, claims string // but for iat and exp
	}{
		"plain":   {nil, "", "HS256", `{"sub":"u"}`},
		"a plan":  {nil, "pro", "HS256", `{"plan":"pro","sub":"u"}`},
		"a type":  {func(j *config.JWT) { j.Type = "at+jwt" }, "", "HS256", `{"sub":"u"}`},
		"URLs":    {func(j *config.JWT) { j.Claims.Plan = `https://example\.com/plan` }, "pro", "HS256", `{"https://example.com/plan":"pro","sub":"u"}`},
		"dots":    {func(j *config.JWT) { j.Claims = config.Claims{User: "app.user.id", Plan: "app.plan"} }, "pro", "HS256", `{"app":{"plan":"pro","user":{"id":"u"}}}`},
		"issuer":  {func(j *config.JWT) { j.Issuer, j.Audience = "https://i.example", "a" }, "", "HS256", `{"aud":"a","iss":"https://i.example","sub":"u"}`},
		"another": {func(j *config.JWT) { j.Secret += testkit.Secret; j.Algorithms = []string{"HS512", "HS256"} }, "", "HS512", `{"sub":"u"}`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, before := jwtConfig(c.change), time.Now()
			signed, err := signToken(cfg, "", tokenHolder{user: "u", plan: c.plan}, 90*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := app.NewVerifier(cfg)
			if err != nil {
				t.Fatal(err)
			}
			who, err := verifier.Verify(t.Context(), signed)
			if err != nil || who.User != "u" || who.Plan != c.plan {
				t.Errorf("got %+v, %v", who, err)
			}
			parts := strings.Split(signed, ".")
			var header struct{ Alg, Typ string }
			var claims map[string]any
			for i, v := range []any{&header, &claims} {
				text, err := base64.RawURLEncoding.DecodeString(parts[i])
				if err == nil {
					err = json.Unmarshal(text, v)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if header.Alg != c.alg || header.Typ != cmp.Or(cfg.Auth.JWT[0].Type, "JWT") {
				t.Errorf("the header is %+v", header)
			}
			iat, exp := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
			if now := time.Now().Unix(); iat < before.Unix() || iat > now {
				t.Errorf("issued at %d, now is %d", iat, now)
			}
			if d := exp - iat; d < 5400 || d > 5401 {
				t.Errorf("good for %d s", d)
			}
			delete(claims, "iat")
			delete(claims, "exp")
			if got, _ := json.Marshal(claims); string(got) != c.claims {
				t.Errorf("the claims are %s, want %s", got, c.claims)
			}
		})
	}
	if _, err := signToken(jwtConfig(nil), "", tokenHolder{user: strings.Repeat("x", 256)}, time.Millisecond); err != nil {
		t.Errorf("a long user and a short time: %v", err)
	}
}

// A token has the value of the claim that means the plan, and the claims that are required.
func TestSignTokenMapsPlans(t *testing.T) {
	cfg := jwtConfig(func(j *config.JWT) {
		j.Plans = config.ClaimPlans{{Value: "*", Plan: "free"}, {Value: "gold", Plan: "pro"}, {Value: "silver", Plan: "pro"}}
		j.Require = map[string][]string{"azp": {"web", "mobile"}, "app.verified": {"true"}}
	})
	verifier, err := app.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, plan := range []string{"", "pro"} {
		signed, err := signToken(cfg, "", tokenHolder{user: "u", plan: plan}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := verifier.Verify(t.Context(), signed); err != nil || who.Plan != plan {
			t.Errorf("plan %q: got %+v, %v", plan, who, err)
		}
	}
	if _, err := signToken(cfg, "", tokenHolder{user: "u", plan: "free"}, time.Minute); err == nil || err.Error() != "auth.jwt.plans: no value means the plan free" {
		t.Errorf("a plan without a value of its own: %v", err)
	}
	cfg.Auth.JWT[0].Require["sub"] = []string{"x"}
	if _, err := signToken(cfg, "", tokenHolder{user: "u"}, time.Minute); err == nil || err.Error() != "auth.jwt.require: sub: the token needs this claim for something else" {
		t.Errorf("a requirement of the user: %v", err)
	}
}

// Of several issuers, the one with a secret signs, or the one that is chosen.
func TestSignTokenChoosesIssuer(t *testing.T) {
	cfg := jwtConfig(func(j *config.JWT) { j.Name, j.Issuer = "a", "https://a.example" })
	other := cfg.Auth.JWT[0]
	other.Name, other.Issuer, other.Secret = "", "https://b.example", testkit.Secret+"b"
	published := config.JWT{Name: "c", Issuer: "https://c.example", JWKSURL: "https://c.example/keys", Algorithms: []string{"ES256"}}
	holder := tokenHolder{user: "u"}
	cfg.Auth.JWT = append(cfg.Auth.JWT, published)
	if _, err := signToken(cfg, "", holder, time.Minute); err != nil {
		t.Errorf("one issuer with a secret: %v", err)
	}
	cfg.Auth.JWT = append(cfg.Auth.JWT, other)
	verifier, err := app.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "https://b.example"} {
		signed, err := signToken(cfg, name, holder, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := verifier.Verify(t.Context(), signed); err != nil || who.Issuer != name {
			t.Errorf("%s: got %+v, %v", name, who, err)
		}
	}
	for name, want := range map[string]string{
		"":  "several issuers have a secret; choose one with -issuer: a, https://b.example",
		"c": `the configuration has no issuer "c" with a secret to sign with`,
		"d": `the configuration has no issuer "d" with a secret to sign with`,
	} {
		if _, err := signToken(cfg, name, holder, time.Minute); err == nil || err.Error() != want {
			t.Errorf("issuer %q: got %v, want %s", name, err, want)
		}
	}
}

// A token of a member has the organisation where the configuration looks for it.
func TestSignTokenOfMember(t *testing.T) {
	cfg := jwtConfig(func(j *config.JWT) { j.Claims.Org = "app.org" })
	for _, org := range []string{"acme", ""} {
		signed, err := signToken(cfg, "", tokenHolder{user: "u", org: org}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := app.NewVerifier(cfg)
		if err != nil {
			t.Fatal(err)
		}
		who, err := verifier.Verify(t.Context(), signed)
		if err != nil || who.User != "u" || who.Org != org {
			t.Errorf("org %q: got %+v, %v", org, who, err)
		}
	}
	for org, want := range map[string]string{"a\nb": "the token's organisation must be a text", "a\xff": "user, plan and organisation must be valid UTF-8"} {
		if signed, err := signToken(cfg, "", tokenHolder{user: "u", org: org}, time.Minute); signed != "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("org %q: got %q and %v, want error: %s", org, signed, err, want)
		}
	}
}

// The command signs no token that its own gateway would refuse.
func TestSignTokenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		user, plan string
		change     func(*config.JWT)
		want       string
	}{
		"a long user":     {strings.Repeat("x", 257), "", nil, "the gateway would refuse it: the token's user must be a text of 1 to 256 bytes"},
		"a line break":    {"a\nb", "", nil, "without control characters"},
		"no user":         {"", "", nil, "the token's user must be a text of 1 to 256 bytes"},
		"not UTF-8":       {"a\xff", "", nil, "user, plan and organisation must be valid UTF-8"},
		"plan not UTF-8":  {"u", "\xff", nil, "user, plan and organisation must be valid UTF-8"},
		"a long plan":     {"u", strings.Repeat("x", 16<<10), nil, "the token is too long"},
		"no secret":       {"u", "", func(j *config.JWT) { j.Secret = "" }, "no auth.jwt.secret to sign with; get a token from the issuer"},
		"no HMAC":         {"u", "", func(j *config.JWT) { j.Algorithms = []string{"RS256", "EdDSA"} }, "auth.jwt.algorithms is [RS256 EdDSA], and the secret signs only HS256"},
		"a short secret":  {"u", "", func(j *config.JWT) { j.Secret = "short" }, "at least 32 bytes"},
		"short for HS512": {"u", "", func(j *config.JWT) { j.Algorithms = []string{"HS256", "HS512"} }, "must have at least 64 bytes for HS512, got 38"},
		"the time taken":  {"u", "", func(j *config.JWT) { j.Claims.User = "exp" }, "auth.jwt.claims.user: exp: the token needs this claim for something else"},
		"one claim":       {"u", "pro", func(j *config.JWT) { j.Claims.Plan = "sub" }, "auth.jwt.claims.plan: sub: "},
		"through a text":  {"u", "pro", func(j *config.JWT) { j.Claims.Plan = "sub.plan" }, "the token needs the claim sub for something else"},
		"over an object":  {"u", "pro", func(j *config.JWT) { j.Claims = config.Claims{User: "app.id", Plan: "app"} }, "auth.jwt.claims.plan: app: "},
		"no key file": {"u", "", func(j *config.JWT) { j.PublicKeyFile = "missing.pem" },
			"auth.jwt.public_key_file: open missing.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := signToken(jwtConfig(c.change), "", tokenHolder{user: c.user, plan: c.plan}, time.Hour)
			if signed != "" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q and %v, want error: %s", signed, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), testkit.Secret) {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// The configuration, the verifier and the command token read claim paths in the same way:
// a path is valid for all of them or for none, and names the same claim.
func TestClaimPathsMeanTheSameEverywhere(t *testing.T) {
	for _, path := range []string{
		"sub", "app.user.id", "7", "a b", "Zoë", `a\.b`, `a\\`, `a\\.b`, `a\\\.b`, `\.`, `\\`, "://", "https://a", "https://a.b",
		`https://a\.b/c`, `https://a\.b/c.d`, `https://a\.b/c\.d`, `https://a\\\.b/c`, "a/b.c/d",
		"", ".", "a.", ".a", "a..b", `\`, `a\`, `\a`, `a\b`, `a\\\`, `a\.` + ".", "https://a.b/c", `https://a\.b.c/d`, `https://a\\.b/c`, "https://a/b.c/d",
	} {
		_, err := config.Parse("gateway.yaml", fmt.Appendf(nil, `
auth: { jwt: { secret: %s, claims: { user: '%s', plan: one-that-is-none-of-them } } }
default_plan: free
plans: { free: {} }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: /, upstream: api }]`, strings.Repeat("5f", 32), path), os.LookupEnv)
		names, own := jwtrules.ParseClaimPath(path)
		if (err == nil) != (own == nil) {
			t.Errorf("%q: %v, but %v", path, err, own)
		}
		if own != nil {
			continue
		}
		claims := map[string]any{}
		if err := setClaim(claims, path, "u"); err != nil {
			t.Errorf("%q: %v", path, err)
		}
		var v any = claims
		for _, name := range names {
			v = v.(map[string]any)[name]
		}
		if v != "u" {
			t.Errorf("%q: %v has no %q", path, claims, names)
		}
	}
}
