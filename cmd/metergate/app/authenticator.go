package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"

	"metergate/config"
	"metergate/proxy/jwtauth"
)

// An authenticator is what a generation verifies tokens with.
type authenticator struct {
	issuers  []issuer
	verifier *jwtauth.Verifier // nil: no tokens are accepted
	apiKeys  bool              // API keys are accepted as well
}

// An issuer judges the tokens of one issuer.
type issuer struct {
	name     string // in logs and metrics; empty: it has none
	path     string // where it stands in the configuration
	keysAt   keyLocation
	options  jwtauth.Options
	verifies *jwtauth.Issuer
}

// A keyLocation says where an issuer publishes its keys, and in which form. Zero: it does not.
type keyLocation struct {
	form jwtauth.Form
	url  string
}

func keyLocationOf(jwt *config.JWT) keyLocation {
	switch {
	case jwt.JWKSURL != "":
		return keyLocation{jwtauth.JWKS, jwt.JWKSURL}
	case jwt.X509URL != "":
		return keyLocation{jwtauth.X509, jwt.X509URL}
	}
	return keyLocation{}
}

// keys returns the published keys; nil: there are none.
func (i *issuer) keys() *jwtauth.KeySet { return i.options.KeySet }

// sameAs reports whether two issuers judge tokens alike, with the same keys.
func (i *issuer) sameAs(other *issuer) bool {
	a, b := i.options, other.options
	if a.KeySet != b.KeySet {
		return false
	}
	a.KeySet, b.KeySet = nil, nil // DeepEqual must not read one that is in use
	return reflect.DeepEqual(a, b)
}

// keySets returns the published keys of all issuers, each once.
func (a authenticator) keySets() (sets []*jwtauth.KeySet) {
	for _, i := range a.issuers {
		if keys := i.keys(); keys != nil && !slices.Contains(sets, keys) {
			sets = append(sets, keys)
		}
	}
	return sets
}

// keySetAt returns the keys that are published at a location; nil: they are not here.
func (a authenticator) keySetAt(l keyLocation) *jwtauth.KeySet {
	for _, i := range a.issuers {
		if i.keysAt == l {
			return i.keys()
		}
	}
	return nil
}

// buildAuthenticator builds the authenticator of a configuration. What has not changed is
// taken over from the generation before: the key set of each URL, and each issuer with what is
// remembered of its tokens.
//
// At the start, before is nil. The process then fetches the first keys of each URL in the
// background; see waiting. A reload to another URL fetches its keys here: without keys the
// gateway would refuse every token of that issuer. If that fails, the reload is refused and the
// previous keys stay in use.
func buildAuthenticator(ctx context.Context, cfg *config.Config, before *generation, log *slog.Logger) (a authenticator, err error) {
	var old authenticator
	if before != nil {
		old = before.auth
	}
	a.apiKeys = cfg.Auth.APIKeys != nil
	for n := range cfg.Auth.JWT {
		i := issuer{name: cfg.Auth.NameOf(n), path: cfg.Auth.PathOf(n), keysAt: keyLocationOf(&cfg.Auth.JWT[n])}
		if i.options, err = issuerOptions(&cfg.Auth.JWT[n]); err != nil {
			return a, fmt.Errorf("%s.%w", i.path, err)
		}
		i.options.Name, i.options.Path = i.name, i.path
		if l := i.keysAt; l.url != "" {
			if i.options.KeySet = a.keySetAt(l); i.options.KeySet == nil {
				i.options.KeySet = old.keySetAt(l)
			}
			if i.options.KeySet == nil {
				i.options.KeySet = jwtauth.NewKeySet(l.form, l.url, log)
			}
		}
		if same := slices.IndexFunc(old.issuers, func(o issuer) bool { return i.sameAs(&o) }); same >= 0 {
			i.verifies = old.issuers[same].verifies
		} else if i.verifies, err = jwtauth.NewIssuer(i.options); err != nil {
			return a, fmt.Errorf("%s: %w", i.path, err)
		}
		a.issuers = append(a.issuers, i)
	}
	var issuers []*jwtauth.Issuer
	for _, i := range a.issuers {
		issuers = append(issuers, i.verifies)
	}
	if slices.EqualFunc(a.issuers, old.issuers, func(x, y issuer) bool { return x.verifies == y.verifies }) {
		a.verifier = old.verifier
	} else if len(issuers) == 0 {
		a.verifier = nil // only API keys are accepted
	} else if a.verifier, err = jwtauth.NewVerifier(old.verifier, issuers...); err != nil {
		return a, err
	}
	if before == nil {
		return a, nil
	}
	return a, a.fetchNewKeys(ctx, old)
}

// fetchNewKeys fetches the keys of each URL that the authenticator before did not have.
func (a authenticator) fetchNewKeys(ctx context.Context, old authenticator) error {
	fetched := old.keySets()
	for _, i := range a.issuers {
		keys := i.keys()
		if keys == nil || slices.Contains(fetched, keys) {
			continue
		}
		if err := keys.Fetch(ctx); err != nil {
			return fmt.Errorf("%s.%s: its keys cannot be fetched, and without them every token would be refused: %w", i.path, i.keysAt.form, err)
		}
		fetched = append(fetched, keys)
	}
	return nil
}

// waiting says whose first keys are still missing, if the gateway should get no requests before
// they are there; nil: it may have some. An issuer whose keys could not be fetched does not keep
// the gateway from serving the users of the others.
func (a authenticator) waiting() error {
	var missing error
	ready := a.apiKeys
	for _, i := range a.issuers {
		keys := i.keys()
		if keys == nil || keys.Missing() == nil {
			ready = true
			continue
		}
		err := keys.Missing()
		if i.name != "" {
			err = fmt.Errorf("%s: %w", i.name, err)
		}
		if !keys.Asked() {
			return err
		}
		if missing == nil {
			missing = err
		}
	}
	if ready {
		return nil
	}
	return missing
}

// issuerOptions returns the options of an issuer, all but those that it shares with others.
func issuerOptions(jwt *config.JWT) (o jwtauth.Options, err error) {
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

		UserFromNumber: jwt.UserFromNumber,
		Require:        jwt.Require,
	}
	for _, p := range jwt.Plans {
		o.Plans = append(o.Plans, jwtauth.PlanOf{Value: p.Value, Plan: p.Plan})
	}
	if jwt.PublicKeyFile != "" {
		if o.PublicKeyPEM, err = os.ReadFile(jwt.PublicKeyFile); err != nil {
			return o, fmt.Errorf("public_key_file: %w", err)
		}
	}
	return o, nil
}

// NewVerifier returns the verifier of a gateway with this configuration. Published
// keys are not fetched.
func NewVerifier(cfg *config.Config) (*jwtauth.Verifier, error) {
	a, err := buildAuthenticator(context.Background(), cfg, nil, slog.New(slog.DiscardHandler))
	return a.verifier, err
}
