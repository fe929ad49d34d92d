package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// identityFields are the names of the header fields in which upstreams are told who
// the user is. What a client sends under such a name is removed, whichever route it
// takes: the upstream trusts these fields.
type identityFields map[string]struct{}

func newIdentityFields(routes []Route) identityFields {
	fields := identityFields{}
	for _, r := range routes {
		for _, name := range []string{r.UserField, r.PlanField} {
			if name != "" {
				fields[plainName(name)] = struct{}{}
			}
		}
	}
	return fields
}

// remove removes these fields in every spelling.
func (f identityFields) remove(h http.Header) {
	if len(f) == 0 {
		return
	}
	for name := range h {
		if _, ok := f[plainName(name)]; ok {
			delete(h, name)
		}
	}
}

// plainName is one for all spellings that some server takes for the same: to CGI and
// its heirs, X_User_Id and X-User-Id are both HTTP_X_USER_ID.
func plainName(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// fieldText is text as a field's value: a user's id can have characters that none may
// have, which are then percent-encoded as UTF-8, and so is the percent sign.
func fieldText(text string) string {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '%' {
			return url.PathEscape(text)
		}
	}
	return text
}
