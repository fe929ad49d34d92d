package reported

import (
	"errors"
	"regexp"
)

// A Path leads from the top of a JSON text to a value in it: usage.total_tokens is the member
// total_tokens of the object that is the member usage. It leads through objects only. The zero
// value leads nowhere.
type Path struct{ text string }

var pathRule = regexp.MustCompile(`^[A-Za-z0-9_:@-]{1,64}(\.[A-Za-z0-9_:@-]{1,64}){0,15}$`)

// ParsePath checks a path: 1 to 16 names of members, joined by dots. The names are compared
// exactly, letter case included.
func ParsePath(text string) (Path, error) {
	if !pathRule.MatchString(text) {
		return Path{}, errors.New("must be up to 16 names of members, joined by dots, such as usage.total_tokens; " +
			"a name has 1 to 64 letters, digits and any of _ : @ -")
	}
	return Path{text}, nil
}

// String is the text of the path.
func (p Path) String() string { return p.text }
