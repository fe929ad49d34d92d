package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"

	"metergate/config"
	"metergate/proxy/jwtauth"
)

// tokens are how a generation knows its users.
type tokens struct {
	options  jwtauth.Options
	verifier *jwtauth.Verifier
}

// keys are those of auth.jwt.jwks_url; nil: there is none.
func (t tokens) keys() *jwtauth.KeySet { return t.options.KeySet }

// buildTokens makes what verifies tokens. What the generation before has is taken over
// as far as it is the same: all of it, with the tokens that it knows, or the keys of a
// URL.
//
// A process that starts waits for the first keys of a URL, and is not ready until then.
// A reload to another URL does not: without keys nobody could be let in, so it is
// refused, and the keys of before stay in use.
func buildTokens(cfg *config.Config, before *generation, log *slog.Logger) (t tokens, err error) {
	if t.options, err = tokenOptions(cfg); err != nil {
		return t, err
	}
	var old tokens
	url, oldURL := cfg.Auth.JWT.JWKSURL, ""
	if before != nil {
		old, oldURL = before.tokens, before.cfg.Auth.JWT.JWKSURL
	}
	switch url {
	case "":
	case oldURL:
		t.options.KeySet = old.keys()
	default:
		t.options.KeySet = jwtauth.NewKeySet(url, log)
	}
	// Not DeepEqual of two KeySets: one of them is in use.
	if t.keys() == old.keys() && reflect.DeepEqual(t.options, old.options) {
		return old, nil
	}
	if t.verifier, err = jwtauth.New(t.options); err != nil {
		return t, fmt.Errorf("auth.jwt: %w", err)
	}
	if before != nil && url != "" && url != oldURL {
		if err := t.keys().Fetch(context.Background()); err != nil {
			return t, fmt.Errorf("auth.jwt.jwks_url: its keys cannot be fetched, and nobody could be let in: %w", err)
		}
	}
	return t, nil
}

func tokenOptions(cfg *config.Config) (o jwtauth.Options, err error) {
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
	}
	if jwt.PublicKeyFile != "" {
		if o.PublicKeyPEM, err = os.ReadFile(jwt.PublicKeyFile); err != nil {
			return o, fmt.Errorf("auth.jwt.public_key_file: %w", err)
		}
	}
	return o, nil
}
