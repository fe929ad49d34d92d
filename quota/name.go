package quota

import (
	"regexp"
	"strings"
)

// NamePattern is the regular expression of a name in the configuration, such as that of a
// plan. The configuration allows fewer names for an endpoint.
const NamePattern = `^[A-Za-z0-9_-]{1,64}$`

var nameRegexp = regexp.MustCompile(NamePattern)

// IsName reports whether s can be the name of a plan or an endpoint.
func IsName(s string) bool { return nameRegexp.MatchString(s) }

// ListNames says which plans, say, there are, for the end of a message: "the plans are free,
// pro" or "the only plan is free". It shows at most 20.
func ListNames(noun string, names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return "there is no " + noun
	case len(names) == 1:
		return "the only " + noun + " is " + names[0]
	case len(names) > most:
		return "the " + noun + "s are " + strings.Join(names[:most], ", ") + " and others"
	}
	return "the " + noun + "s are " + strings.Join(names, ", ")
}
