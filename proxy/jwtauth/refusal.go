package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"metergate/proxy/credential"
	"metergate/proxy/jwtauth/jwtrules"
)

// A refusal is an *credential.Error with what was compared. Its text is for the operator's log: the
// client only gets the text of the *credential.Error that it wraps. It shows neither keys nor the
// signature, nor the user, whom the log may have to leave out. What it shows of the token is
// quoted and cut.
type refusal struct {
	reason   *credential.Error
	compared string
}

func (r *refusal) Error() string { return r.reason.Error() + ": " + r.compared }
func (r *refusal) Unwrap() error { return r.reason }

// because adds what was compared to the reason of a refusal.
func because(reason *credential.Error, format string, args ...any) error {
	return &refusal{reason, fmt.Sprintf(format, args...)}
}

const (
	// maxShownBytes is how much of a text from a token is shown.
	maxShownBytes = 100
	// maxShownItems is how many elements of a list from a token are shown.
	maxShownItems = 4
)

// shown returns a value of a token for the log. Of what is neither a text, a number nor a
// list, it says only the kind.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > maxShownBytes {
			v = v[:maxShownBytes] + "..."
		}
		return fmt.Sprintf("%+q", v)
	case json.Number:
		return strings.Trim(shown(v.String()), `"`)
	case []any:
		items := []string{}
		for i, item := range v {
			if i == maxShownItems {
				items = append(items, "...")
				break
			}
			if _, nested := item.([]any); nested {
				items = append(items, "a list")
				continue
			}
			items = append(items, shown(item))
		}
		return "[" + strings.Join(items, " ") + "]"
	}
	return kindOf(v)
}

// kindOf names the kind of a value without showing it.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if v == "" {
			return "an empty text"
		}
		if strings.ContainsFunc(v, breaksLines) {
			return "a text with a control character"
		}
		return fmt.Sprintf("a text of %d bytes", len(v))
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	}
	return "an object"
}

// shownClaim says what a claim is.
func (c claims) shownClaim(name string) string {
	v, ok := c[name]
	if !ok {
		return "there is no claim " + name
	}
	return name + " is " + shown(v)
}

// shownTime says what a claim with a time is, compared with now.
func (c claims) shownTime(name string, now time.Time) string {
	t, err := c.numericDate(name)
	if err != nil || t == nil {
		return c.shownClaim(name)
	}
	return fmt.Sprintf("%s is %s, and it is %s", name, t.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// explainClaims adds what was compared to a refusal of the validator.
func (i *Issuer) explainClaims(reason *credential.Error, c claims) error {
	switch reason {
	case errExpired, errNoExpiry:
		return because(reason, "%s", c.shownTime("exp", i.now()))
	case errNotYet:
		return because(reason, "%s", c.shownTime("nbf", i.now()))
	case errIssuedLate:
		return because(reason, "%s", c.shownTime("iat", i.now()))
	case errTime:
		for _, name := range []string{"exp", "nbf", "iat"} {
			if _, err := c.numericDate(name); err != nil {
				return because(reason, "%s", c.shownClaim(name))
			}
		}
	case errIssuer:
		return because(reason, "%s; %s.issuer is %q", c.shownClaim("iss"), i.options.Path, i.options.Issuer)
	case errAudience:
		return because(reason, "%s; %s.audience is %q", c.shownClaim("aud"), i.options.Path, i.options.Audience)
	}
	return reason
}

// explainPath adds what is at the path of the claim for a setting, such as "user". It shows no
// value: the user is shown nowhere but where the log names users.
func (i *Issuer) explainPath(reason *credential.Error, c claims, setting string, path []string) error {
	name := strings.Join(path, ".")
	value, found := c.lookUp(path)
	if !found {
		return because(reason, "there is no claim %s (%s.claims.%s)", name, i.options.Path, setting)
	}
	_, isList := value.([]any)
	_, isNumber := value.(json.Number)
	hint := ""
	switch {
	case reason == errPlan && isList:
		hint = fmt.Sprintf("; %s.plans can say which plans its values mean", i.options.Path)
	case reason == errUser && isNumber:
		hint = fmt.Sprintf("; %s.user_from_number accepts whole numbers", i.options.Path)
	}
	return because(reason, "the claim %s (%s.claims.%s) is %s%s", name, i.options.Path, setting, kindOf(value), hint)
}

// explainKey adds which key the token was to be verified with.
func (i *Issuer) explainKey(err error, header map[string]any, s scheme) error {
	var reason *credential.Error
	if !errors.As(err, &reason) {
		return err
	}
	kid, published := shown(header["kid"]), i.options.Path
	if i.keys != nil {
		published += "." + string(i.keys.form)
	}
	switch {
	case reason == errUnknownKey:
		return because(reason, "no key of %s has the kid %s", published, kid)
	case reason == errNoKey, reason == errSeveralKeys:
		return because(reason, "the algorithm is %s, and the keys are those of %s", s.algorithm, published)
	case reason == errKeyID:
		return because(reason, "kid is %s", kindOf(header["kid"]))
	case reason != errSignature:
		return err
	case jwtrules.IsHMAC(s.algorithm):
		return because(reason, "the signature does not fit %s.secret", i.options.Path)
	case i.keys == nil || header["kid"] == nil && s.key != nil:
		return because(reason, "the signature does not fit %s.public_key_file", i.options.Path)
	case header["kid"] == nil:
		return because(reason, "the signature does not fit the only key of %s for %s", published, s.algorithm)
	}
	return because(reason, "the signature does not fit the key %s of %s, or that key is not for %s", kid, published, s.algorithm)
}

// explainParts says what a token with another number of parts probably is.
func explainParts(n int) error {
	switch n {
	case 1:
		return because(errParts, "it has one, so only its issuer can read it; ask the issuer for a token for this API, such as with an audience")
	case 5:
		return because(errParts, "it has five, so it is encrypted (JWE); ask the issuer for a token for this API, such as with an audience")
	}
	return because(errParts, "it has %d", n)
}

// explainAlgorithm says which algorithm a token has, and which it may have.
func (i *Issuer) explainAlgorithm(alg any) error {
	return because(errSignature, "the token is signed with %s; %s.algorithms is [%s]", shown(alg), i.options.Path, strings.Join(i.options.Algorithms, ", "))
}
