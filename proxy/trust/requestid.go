package trust

import (
	"net/http"
	"strings"
)

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

// TraceID returns the trace that a request belongs to, 32 hexadecimal digits of its
// traceparent header (W3C Trace Context, section 3.2), or "" if that is missing or
// malformed. The headers of the trace context reach the upstream unchanged in any case.
//
//	00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
func TraceID(h http.Header) string {
	const (
		zeros = "00000000000000000000000000000000"
		size  = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	)
	parent := singleValue(h, "Traceparent")
	if len(parent) < size || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return ""
	}
	version, trace, span, flags := parent[:2], parent[3:35], parent[36:52], parent[53:55]
	switch {
	case !isLowerHex(version) || !isLowerHex(trace) || !isLowerHex(span) || !isLowerHex(flags):
		return ""
	case version == "ff" || trace == zeros || span == zeros[:16]:
		return ""
	case version == "00" && len(parent) > size, len(parent) > size && parent[size] != '-':
		return "" // only a later version may have more, after a dash
	}
	return trace
}

func isLowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
