package quota

import "regexp"

// NamePattern is the regular expression of a name in the configuration, such as that of a
// plan. The configuration allows fewer names for an endpoint.
const NamePattern = `^[A-Za-z0-9_-]{1,64}$`

var nameRegexp = regexp.MustCompile(NamePattern)

// IsName reports whether s can be the name of a plan or an endpoint.
func IsName(s string) bool { return nameRegexp.MatchString(s) }
