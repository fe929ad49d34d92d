package jwtauth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"metergate/proxy/jwtauth/jwtrules"
)

// A requirement is a claim that must have one of some values.
type requirement struct {
	shown   string // the path, as it is configured
	path    []string
	allowed []string
}

// newRequirements returns the requirements by their paths, in alphabetical order.
func newRequirements(require map[string][]string) (list []requirement, err error) {
	for _, shown := range slices.Sorted(maps.Keys(require)) {
		r := requirement{shown: shown, allowed: slices.Clone(require[shown])}
		if r.path, err = jwtrules.ParseClaimPath(shown); err != nil {
			return nil, fmt.Errorf("required claim %q: %w", shown, err)
		}
		if len(r.allowed) == 0 || slices.Contains(r.allowed, "") {
			return nil, fmt.Errorf("required claim %q: list the values that it may have; none may be empty", shown)
		}
		list = append(list, r)
	}
	return list, nil
}

// isMet reports whether a token meets the requirement. Of a list, one element is enough.
func (r *requirement) isMet(c claims) bool {
	value, _ := c.lookUp(r.path)
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	return slices.ContainsFunc(list, func(v any) bool {
		switch v := v.(type) {
		case string:
			return r.allows(v) || r.isScope() && slices.ContainsFunc(strings.Fields(v), r.allows)
		case json.Number:
			return r.allows(v.String())
		case bool:
			return r.allows(strconv.FormatBool(v))
		}
		return false
	})
}

func (r *requirement) allows(text string) bool { return slices.Contains(r.allowed, text) }

// isScope reports whether the claim is one whose text has several values with spaces between them
// (RFC 8693, section 4.2). Entra calls it scp.
func (r *requirement) isScope() bool {
	name := r.path[len(r.path)-1]
	return name == "scope" || name == "scp"
}

// checkRequirements checks a token's claims against the requirements of its issuer.
func (i *Issuer) checkRequirements(c claims) error {
	for k := range i.require {
		r := &i.require[k]
		if r.isMet(c) {
			continue
		}
		must := fmt.Sprintf("%s.require wants one of [%s]", i.options.Path, strings.Join(r.allowed, ", "))
		value, found := c.lookUp(r.path)
		if !found {
			return because(errRequired, "there is no claim %s; %s", r.shown, must)
		}
		return because(errRequired, "the claim %s is %s; %s", r.shown, shown(value), must)
	}
	return nil
}
