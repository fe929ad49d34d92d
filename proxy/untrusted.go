package proxy

import "net/http"

// Fields in which clients have no say.
//
// An upstream believes some fields of a request because only a proxy writes them.
// From a client they are removed, on every route and in every spelling:
//
//   - those that tell the upstream who the user is: user_header and plan_header of
//     any route;
//   - X-Request-Id, which the gateway sets;
//   - those that CGI and its heirs take for a word of their own server: ofServers;
//   - those that have a framework run something else than the request's method and
//     path say, which are what was routed and counted: rerouting;
//   - Content-Length and Transfer-Encoding in another spelling than HTTP's own, which
//     net/http has read and writes anew.
//
// Those that tell where a request comes from are in forwarded.go: a proxy in front may
// be believed.
type untrustedHeaders map[string]struct{} // by appendPlain

// rerouting are the fields that replace a part of the request line, and who heeds them.
var rerouting = []string{
	// The URL. IIS with its rewriting modules; Symfony, Laminas and Drupal before
	// they were mended in 2018 (CVE-2018-14773).
	"X-Original-URL", "X-Rewrite-URL",
	// The same under names that proxies use among themselves.
	"X-Original-URI", "X-Original-Path", "X-Rewrite-URI", "X-Rewrite-Path", "X-Request-URI", "X-Envoy-Original-Path",
	// The method. Express, Rack and Rails, Symfony and Laravel, Slim, Plack, OData.
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method",
	// What WSGI servers cut off the path: gunicorn heeds SCRIPT_NAME of a client.
	"Script-Name", "X-Script-Name", "Path-Info",
	// The host, and so the site, where the upstream has several.
	"X-Host", "X-Original-Host", "X-HTTP-Host-Override",
}

// ofServers are the fields that become a variable of a server's own (HTTP_PROXY).
var ofServers = []string{
	"Proxy",       // through which the program would call others: httpoxy, CVE-2016-5385
	"Remote-User", // who has logged in, to frameworks that leave that to a server
}

func newUntrustedHeaders(routes []Route) untrustedHeaders {
	fields := untrustedHeaders{}
	add := func(names ...string) {
		for _, name := range names {
			if name != "" {
				fields[string(appendPlain(nil, name))] = struct{}{}
			}
		}
	}
	add(rerouting...)
	add(headerRequestID, "Content-Length", "Transfer-Encoding")
	add(ofServers...)
	for _, r := range routes {
		add(r.UserField, r.PlanField)
	}
	return fields
}

const maxPlain = 64 // what the configuration allows a name

// remove removes these fields in every spelling.
func (f untrustedHeaders) remove(h http.Header) {
	var buf [maxPlain]byte
	for name := range h {
		if _, ok := f[string(appendPlain(buf[:0], name))]; ok {
			delete(h, name)
		}
	}
}

// appendPlain appends a name as it is the same for all spellings that some server
// takes for one: to CGI and its heirs X_User_Id is HTTP_X_USER_ID, as X-User-Id is,
// and in PHP X.User.Id is, too. Names that are alike for maxPlain bytes are the same.
func appendPlain(b []byte, name string) []byte {
	for i := range min(len(name), maxPlain) {
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
