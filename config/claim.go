package config

import (
	"errors"
	"regexp"
	"strings"
)

var (
	claimRule = regexp.MustCompile(`^([^.\\]|\\[.\\])+(\.([^.\\]|\\[.\\])+)*$`)
	claimName = regexp.MustCompile(`([^.\\]|\\[.\\])+`)
	// unescape gives a name as it stands in a token; separators leaves of a path only
	// the dots that separate.
	unescape   = strings.NewReplacer(`\\`, `\`, `\.`, `.`)
	separators = strings.NewReplacer(`\\`, ``, `\.`, ``)
)

// checkClaim: names joined by dots, in which \. is a dot and \\ a backslash.
func checkClaim(text string) error {
	if !claimRule.MatchString(text) {
		return errors.New(`must be the name of a claim, or several joined by dots; a dot within a name is \., a backslash \\`)
	}
	// In https://example.com/plan it would be a member com/plan of https://example.
	bare := separators.Replace(text)
	if dot := strings.IndexByte(bare, '.'); dot >= 0 && strings.Contains(bare, "://") && dot < strings.LastIndexByte(bare, '/') {
		return errors.New(`has a dot that would lead into an object; a dot within a name is \., such as https://example\.com/plan`)
	}
	return nil
}

// claimPath returns the names in what checkClaim has found good.
func claimPath(text string) []string {
	names := claimName.FindAllString(text, -1)
	for i, name := range names {
		names[i] = unescape.Replace(name)
	}
	return names
}
