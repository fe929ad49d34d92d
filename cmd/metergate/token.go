package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/app"
	"metergate/config"
	"metergate/proxy/jwtauth/jwtrules"
)

func token(c *console) error {
	f := c.flags()
	file := configFlag(f)
	user := f.String("user", "", "the `USER` that the token is for (needed)")
	plan := f.String("plan", "", "a `PLAN` of the configuration (default: the default plan)")
	org := f.String("org", "", "the `ORGANISATION` that the user is a member of (default: none)")
	issuer := f.String("issuer", "", "the `NAME` of the issuer to sign for (default: the only one with a secret)")
	ttl := f.Duration("ttl", time.Hour, "how long the token is valid")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *user == "" {
		return c.usageError("-user is needed")
	}
	if *ttl <= 0 {
		return c.usageError("-ttl must be positive")
	}
	cfg, err := loadOnly(*file, "auth", "plans")
	if err != nil {
		return err
	}
	if *plan != "" {
		if _, ok := cfg.Plans[*plan]; !ok {
			return c.usageError("%s has no plan %q", *file, *plan)
		}
	}
	signed, err := signToken(cfg, *issuer, tokenHolder{*user, *plan, *org}, *ttl)
	if err != nil {
		return c.usageError("%v", err)
	}
	fmt.Fprintln(c.stdout, signed)
	return nil
}

// hmacMethods are the algorithms that a token can be signed with here. For all others,
// only the issuer has the private key.
var hmacMethods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384, "HS512": jwt.SigningMethodHS512,
}

// A tokenHolder is who a token is for. plan and org may be empty: the token then has no such claim.
type tokenHolder struct{ user, plan, org string }

// signerNamed returns the index of the issuer in auth.jwt that has a name; an empty name: of the
// only issuer with a secret. Only with a secret can a token be signed here.
func signerNamed(cfg *config.Config, name string) (int, error) {
	found, names := -1, []string{}
	for i, jwt := range cfg.Auth.JWT {
		switch {
		case jwt.Secret == "":
		case name == "" && found >= 0:
			names = append(names, cfg.Auth.NameOf(i))
		case name == "" || cfg.Auth.NameOf(i) == name:
			found, names = i, append(names, cfg.Auth.NameOf(i))
		}
	}
	switch {
	case found < 0 && name != "":
		return 0, fmt.Errorf("the configuration has no issuer %q with a secret to sign with", name)
	case found < 0:
		return 0, errors.New("the configuration has no auth.jwt.secret to sign with; get a token from the issuer, or use a configuration with a secret of your own")
	case len(names) > 1:
		return 0, fmt.Errorf("several issuers have a secret; choose one with -issuer: %s", strings.Join(names, ", "))
	}
	return found, nil
}

// signToken signs a token of the issuer with a name, see signerNamed. It is valid from now for ttl,
// rounded up to a second. A gateway with this configuration accepts it. Errors: there is no such
// issuer, it has no HMAC algorithm or no claim for an organisation, two of its claims need the
// same place, or the gateway would refuse the token.
func signToken(cfg *config.Config, issuer string, holder tokenHolder, ttl time.Duration) (string, error) {
	signer, err := signerNamed(cfg, issuer)
	if err != nil {
		return "", err
	}
	auth, path := cfg.Auth.JWT[signer], cfg.Auth.PathOf(signer)
	if holder.org != "" && auth.Claims.Org == "" {
		return "", fmt.Errorf("-org needs %s.claims.org, which says which claim of a token names the organisation; the configuration has none", path)
	}
	var method jwt.SigningMethod
	for _, name := range auth.Algorithms {
		if method = hmacMethods[name]; method != nil {
			break
		}
	}
	if method == nil {
		return "", fmt.Errorf("%s.algorithms is %v, and the secret signs only HS256, HS384 and HS512; get a token from the issuer, or add HS256",
			path, auth.Algorithms)
	}
	now := time.Now()
	claims := jwt.MapClaims{
		"iat": now.Unix(),
		"exp": now.Add(ttl).Add(time.Second - 1).Unix(),
	}
	if auth.Issuer != "" {
		claims["iss"] = auth.Issuer
	}
	if auth.Audience != "" {
		claims["aud"] = auth.Audience
	}
	plan, err := planValue(&auth, path, holder.plan)
	if err != nil {
		return "", err
	}
	for _, claim := range []struct{ key, path, value string }{
		{"user", auth.Claims.User, holder.user}, {"plan", auth.Claims.Plan, plan}, {"org", auth.Claims.Org, holder.org},
	} {
		if claim.value == "" && claim.key != "user" {
			continue
		}
		if err := setClaim(claims, claim.path, claim.value); err != nil {
			return "", fmt.Errorf("%s.claims.%s: %w", path, claim.key, err)
		}
	}
	for _, required := range slices.Sorted(maps.Keys(auth.Require)) {
		if err := setClaim(claims, required, auth.Require[required][0]); err != nil {
			return "", fmt.Errorf("%s.require: %w", path, err)
		}
	}
	unsigned := jwt.NewWithClaims(method, claims)
	if auth.Type != "" {
		unsigned.Header["typ"] = auth.Type
	}
	signed, err := unsigned.SignedString([]byte(auth.Secret))
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	if err := checkToken(cfg, signed, holder); err != nil {
		return "", err
	}
	return signed, nil
}

// planValue returns the value of the plan claim that means a plan. path is the issuer's.
func planValue(auth *config.JWT, path, plan string) (string, error) {
	if plan == "" || len(auth.Plans) == 0 {
		return plan, nil
	}
	for _, p := range auth.Plans {
		if p.Plan == plan && p.Value != jwtrules.AnyValue {
			return p.Value, nil
		}
	}
	return "", fmt.Errorf("%s.plans: no value means the plan %s", path, plan)
}

// setClaim sets the claim at a path. It creates the objects on the way.
func setClaim(claims map[string]any, path, value string) error {
	names, err := jwtrules.ParseClaimPath(path)
	if err != nil {
		return err
	}
	last := len(names) - 1
	for _, name := range names[:last] {
		if _, ok := claims[name]; !ok {
			claims[name] = map[string]any{}
		}
		inner, ok := claims[name].(map[string]any)
		if !ok {
			return fmt.Errorf("%s: the token needs the claim %s for something else", path, name)
		}
		claims = inner
	}
	if _, ok := claims[names[last]]; ok {
		return fmt.Errorf("%s: the token needs this claim for something else", path)
	}
	claims[names[last]] = value
	return nil
}

// checkToken verifies a token as a gateway with this configuration would.
func checkToken(cfg *config.Config, signed string, holder tokenHolder) error {
	verifier, err := app.NewVerifier(cfg)
	if err != nil {
		return err
	}
	got, err := verifier.Verify(context.Background(), signed)
	if err != nil {
		return fmt.Errorf("the gateway would refuse it: %w", err)
	}
	// JSON cannot carry invalid UTF-8: the token would be for a different user.
	if (tokenHolder{got.User, got.Plan, got.Org}) != holder {
		return errors.New("user, plan and organisation must be valid UTF-8")
	}
	return nil
}
