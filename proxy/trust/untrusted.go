package trust

import "net/http"

// UntrustedHeaders are request headers that clients may not set. An upstream believes
// them, because only a proxy writes them. They are removed from every client's request, on
// every route and in every spelling (see appendNormalized):
//
//   - user_header and plan_header of any route, which tell the upstream who the user is;
//   - X-Request-Id, which the gateway sets;
//   - serverVariables, which CGI and its successors take for variables of the server;
//   - rerouting, with which a framework would run something else than the method and the
//     path that were routed and counted;
//   - Content-Length and Transfer-Encoding in unusual spellings. net/http reads the usual
//     ones and writes them anew.
//
// Headers about where a request comes from are in forwarded.go: there a proxy in front may
// be trusted.
type UntrustedHeaders map[string]struct{} // by normalized name

// rerouting are the headers that replace a part of the request line, by the software that
// obeys them.
var rerouting = []string{
	// The URL: IIS with its rewriting modules; Symfony, Laminas and Drupal before they were
	// fixed in 2018 (CVE-2018-14773).
	"X-Original-URL", "X-Rewrite-URL",
	// The same, under names that proxies use among themselves.
	"X-Original-URI", "X-Original-Path", "X-Rewrite-URI", "X-Rewrite-Path", "X-Request-URI", "X-Envoy-Original-Path",
	// The method: Express, Rack and Rails, Symfony and Laravel, Slim, Plack, OData.
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method",
	// What WSGI servers cut off the path: gunicorn obeys a client's SCRIPT_NAME.
	"Script-Name", "X-Script-Name", "Path-Info",
	// The host, and so the site if the upstream serves several.
	"X-Host", "X-Original-Host", "X-HTTP-Host-Override",
}

// serverVariables are the headers that become a variable of the server itself, such as
// HTTP_PROXY.
var serverVariables = []string{
	"Proxy",       // the proxy for the program's own calls: httpoxy, CVE-2016-5385
	"Remote-User", // the logged-in user, for frameworks that leave the login to a server
}

// NewUntrustedHeaders returns the untrusted headers of a gateway. own are the names of its
// user_header and plan_header of all routes; empty names are ignored.
func NewUntrustedHeaders(own ...string) UntrustedHeaders {
	headers := UntrustedHeaders{}
	add := func(names ...string) {
		for _, name := range names {
			if name != "" {
				headers[string(appendNormalized(nil, name))] = struct{}{}
			}
		}
	}
	add(rerouting...)
	add(HeaderRequestID, "Content-Length", "Transfer-Encoding")
	add(serverVariables...)
	add(own...)
	return headers
}

// maxNormalized is how many bytes of a name count. The configuration allows no longer
// names.
const maxNormalized = 64

// Remove removes these headers in every spelling.
func (u UntrustedHeaders) Remove(h http.Header) {
	var buf [maxNormalized]byte
	for name := range h {
		if _, ok := u[string(appendNormalized(buf[:0], name))]; ok {
			delete(h, name)
		}
	}
}

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
