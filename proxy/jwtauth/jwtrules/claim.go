package jwtrules

import (
	"errors"
	"regexp"
	"strings"
)

var (
	claimPathRule = regexp.MustCompile(`^([^.\\]|\\[.\\])+(\.([^.\\]|\\[.\\])+)*$`)
	claimName     = regexp.MustCompile(`([^.\\]|\\[.\\])+`)
	// unescapeName turns a name of a path into the name of a claim.
	unescapeName = strings.NewReplacer(`\\`, `\`, `\.`, `.`)
	// dropEscapes leaves only the dots of a path that separate names.
	dropEscapes = strings.NewReplacer(`\\`, ``, `\.`, ``)
)

// AnyValue stands for each value of the plan claim that is not mapped to a plan of its own.
const AnyValue = "*"

// ParseClaimPath returns the names in a dotted path, which reaches into objects: app.plan
// is the member plan of the claim app. A dot within a name is written \. and a backslash
// \\, so the claim https://example.com/plan is https://example\.com/plan. The meaning of a
// path never depends on the token.
//
// Errors: an empty name, a backslash before another character, and a URL with a separating
// dot before its last slash. Such a dot is always a mistake: https://example.com/plan would
// be the member com/plan of the claim https://example.
func ParseClaimPath(path string) ([]string, error) {
	if !claimPathRule.MatchString(path) {
		return nil, errors.New(`must be the name of a claim, or several names joined by dots; write a dot within a name as \. and a backslash as \\`)
	}
	bare := dropEscapes.Replace(path)
	if dot := strings.IndexByte(bare, '.'); dot >= 0 && strings.Contains(bare, "://") && dot < strings.LastIndexByte(bare, '/') {
		return nil, errors.New(`must have \. for a dot within a name, such as https://example\.com/plan; a bare dot leads into an object`)
	}
	names := claimName.FindAllString(path, -1)
	for i, name := range names {
		names[i] = unescapeName.Replace(name)
	}
	return names, nil
}
