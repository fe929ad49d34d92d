package trust

import "net/http"

// HeaderRequestID is the header of the request id.
const HeaderRequestID = "X-Request-Id"

// RequestID returns the X-Request-Id of a trusted proxy, so that one id leads through all
// logs, or "" if there is none. It need not be unique.
func (o Origin) RequestID(r *http.Request) string {
	if id := singleValue(r.Header, HeaderRequestID); o.trusted && isRequestID(id) {
		return id
	}
	return ""
}

// isRequestID reports whether id has 1 to 128 characters, all of which need no quoting
// anywhere.
func isRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
