package trust

import (
	"net/http"
	"strings"
)

// UntrustedHeaders are request headers that clients may not set. An upstream believes
// them, because only a proxy writes them. They are removed on every route and in every
// spelling (see appendNormalized).
//
// These are removed from every request:
//
//   - user_header and plan_header of any route, which tell the upstream who the user is;
//   - X-Request-Id, which the gateway sets;
//   - serverVariables, which CGI and its successors take for variables of the server;
//   - rerouting, with which a framework would run something else than the method and the
//     path that were routed and counted;
//   - Content-Length and Transfer-Encoding in unusual spellings. net/http reads the usual
//     ones and writes them anew.
//
// connectionHeaders and identityHeaders are removed as well, except for those of a trusted
// peer that are spelled as usual: no proxy writes other spellings, so they come from a
// client. Forwarded never stays, even from a trusted peer: it repeats what X-Forwarded-For
// says, and the gateway does not read it. ReverseProxy has already removed it in its usual
// spelling.
type UntrustedHeaders struct {
	always nameSet
	passed map[string]struct{} // in the spelling of net/http; nil: none
}

var ofProxies = newNameSet(connectionHeaders, identityHeaders)

// NewUntrustedHeaders returns the untrusted headers of a gateway. own are the names of its
// user_header and plan_header of all routes; empty names are ignored. passed are those that
// are let through from any client, if they are spelled as usual, unless they are own.
func NewUntrustedHeaders(own, passed []string) UntrustedHeaders {
	always := []string{HeaderRequestID, "Content-Length", "Transfer-Encoding"}
	for _, name := range own {
		if name != "" {
			always = append(always, name)
		}
	}
	u := UntrustedHeaders{always: newNameSet(rerouting, serverVariables, always)}
	never := newNameSet(always)
	for _, name := range passed {
		if never.contains(appendNormalized(nil, name)) {
			continue
		}
		if u.passed == nil {
			u.passed = map[string]struct{}{}
		}
		u.passed[http.CanonicalHeaderKey(name)] = struct{}{}
	}
	return u
}

// maxNormalized is how many bytes of a name count. The configuration allows no longer
// names.
const maxNormalized = 64

// Remove removes these headers from a request.
func (u UntrustedHeaders) Remove(h http.Header, from Origin) {
	var buf [maxNormalized]byte
	for name := range h {
		if _, ok := u.passed[name]; ok {
			continue
		}
		normalized := appendNormalized(buf[:0], name)
		if u.always.contains(normalized) || !(from.trusted && isUsualSpelling(name)) && ofProxies.contains(normalized) {
			delete(h, name)
		}
	}
}

func isUsualSpelling(name string) bool { return !strings.ContainsAny(name, "_.") }

// appendNormalized appends the normal form of a header's name. Two names have the same form
// if some server takes them for the same name: to CGI and its successors, X_User_Id and
// X-User-Id are both HTTP_X_USER_ID; to PHP, so is X.User.Id. Only the first maxNormalized
// bytes count.
func appendNormalized(b []byte, name string) []byte {
	for i := range min(len(name), maxNormalized) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		b = append(b, c)
	}
	return b
}
