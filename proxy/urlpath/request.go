package urlpath

import (
	"net/http"
	"net/url"
)

// CanonicalizeRequest gives r the one path with which it is routed, counted and
// forwarded. If that differs from the path that was sent, r.URL becomes a changed copy.
// The query is never changed. The error wraps [ErrNotCanonical].
func CanonicalizeRequest(r *http.Request) error {
	u := r.URL
	switch {
	case r.Method == http.MethodConnect, u.Path == "*":
		return &refusal{"the target is not a path"}
	// The target may be a whole URL. net/http has copied its host to r.Host (RFC 9112,
	// section 3.2.2) and does not check the rest.
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return &refusal{"the target has a scheme other than http and https"}
	case u.Scheme != "" && (u.Host == "" || u.User != nil):
		return &refusal{"the target has no host, or has a user name"} // RFC 9110, sections 4.2.1 and 4.2.4
	}
	for i := range len(u.RawQuery) {
		switch c := u.RawQuery[i]; {
		case c == '#':
			return &refusal{"the query has a fragment"} // see canonicalChar
		case c <= ' ' || c > '~':
			// HTTP/2 can carry a space, and for an HTTP/1 upstream the target would end
			// there.
			return &refusal{"the query has a byte that is not printable ASCII"}
		}
	}
	// Canonicalize needs the path as it was sent. EscapedPath cannot give it: when a byte
	// of RawPath should have been escaped, EscapedPath decodes everything and escapes it
	// anew, and an encoded slash comes out as a slash.
	raw := u.RawPath
	if raw == "" {
		raw = u.EscapedPath() // RawPath is left out when this is the same
	}
	if raw == "" && u.Host != "" {
		raw = "/" // http://host, RFC 9110, section 4.2.3
	}
	path, err := Canonicalize(raw)
	if err != nil {
		return err
	}
	if path == u.EscapedPath() {
		return nil
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return &refusal{"the path has a malformed escape"}
	}
	// EscapedPath, and so ServeMux and ReverseProxy, take RawPath as it is: all its bytes
	// may stand in a path, and it decodes to Path.
	changed := *u
	changed.Path, changed.RawPath = decoded, path
	r.URL = &changed
	return nil
}
