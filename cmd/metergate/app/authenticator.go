package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"

	"metergate/config"
	"metergate/proxy/jwtauth"
)

// An authenticator is what a generation verifies tokens with.
type authenticator struct {
	options  jwtauth.Options
	verifier *jwtauth.Verifier
}

// keySet returns the keys of auth.jwt.jwks_url; nil: none is configured.
func (a authenticator) keySet() *jwtauth.KeySet { return a.options.KeySet }

// buildAuthenticator builds the authenticator of a configuration. What has not changed is
// taken over from the generation before: the whole authenticator with its cache of
// verified tokens, or only the key set of a URL.
//
// At the start, before is nil. The process then fetches the first keys of a URL in the
// background and is not ready until it has them. A reload to another URL fetches them
// here: without keys the gateway would refuse every token. If that fails, the reload is
// refused and the previous keys stay in use.
func buildAuthenticator(ctx context.Context, cfg *config.Config, before *generation, log *slog.Logger) (a authenticator, err error) {
	if a.options, err = verifierOptions(cfg); err != nil {
		return a, err
	}
	var old authenticator
	url, oldURL := cfg.Auth.JWT.JWKSURL, ""
	if before != nil {
		old, oldURL = before.auth, before.cfg.Auth.JWT.JWKSURL
	}
	switch url {
	case "":
	case oldURL:
		a.options.KeySet = old.keySet()
	default:
		a.options.KeySet = jwtauth.NewKeySet(url, log)
	}
	// Key sets are compared by address first: DeepEqual must not read one that is in use.
	if a.keySet() == old.keySet() && reflect.DeepEqual(a.options, old.options) {
		return old, nil
	}
	if a.verifier, err = jwtauth.New(a.options); err != nil {
		return a, fmt.Errorf("auth.jwt: %w", err)
	}
	if before != nil && url != "" && url != oldURL {
		if err := a.keySet().Fetch(ctx); err != nil {
			return a, fmt.Errorf("auth.jwt.jwks_url: its keys cannot be fetched, and without them every token would be refused: %w", err)
		}
	}
	return a, nil
}

func verifierOptions(cfg *config.Config) (o jwtauth.Options, err error) {
	jwt := cfg.Auth.JWT
	o = jwtauth.Options{
		Secret:     []byte(jwt.Secret),
		Algorithms: jwt.Algorithms,
		Type:       jwt.Type,
		Issuer:     jwt.Issuer,
		Audience:   jwt.Audience,
		Leeway:     jwt.Leeway,
		UserClaim:  jwt.Claims.User,
		PlanClaim:  jwt.Claims.Plan,
		OrgClaim:   jwt.Claims.Org,

		AnchorClaim: jwt.Claims.Anchor,
	}
	if jwt.PublicKeyFile != "" {
		if o.PublicKeyPEM, err = os.ReadFile(jwt.PublicKeyFile); err != nil {
			return o, fmt.Errorf("auth.jwt.public_key_file: %w", err)
		}
	}
	return o, nil
}

// NewVerifier returns the verifier of a gateway with this configuration. Keys of a
// jwks_url are not fetched.
func NewVerifier(cfg *config.Config) (*jwtauth.Verifier, error) {
	a, err := buildAuthenticator(context.Background(), cfg, nil, slog.New(slog.DiscardHandler))
	return a.verifier, err
}
