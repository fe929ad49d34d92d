package trust

import (
	"iter"
	"strings"
)

// The names of headers that servers believe, because usually a proxy writes them. A name
// that ends with -* stands for all that begin like that, and for the name before it.

// rerouting are the headers that replace a part of the request line, by the software that
// obeys them.
var rerouting = []string{
	// The URL: IIS with its rewriting modules; Symfony, Laminas and Drupal before they were
	// fixed in 2018 (CVE-2018-14773).
	"X-Original-URL", "X-Rewrite-URL",
	// The same, under names that proxies and platforms use among themselves.
	"X-Original-URI", "X-Original-Path", "X-Rewrite-URI", "X-Rewrite-Path", "X-Request-URI", "X-Envoy-Original-Path",
	"X-MS-Original-URL", "X-Override-URL", "X-Waws-Unencoded-URL", "X-Replaced-Path",
	// Next.js: the path, and the middleware that is to be left out (CVE-2025-29927).
	"X-Invoke-Path", "X-Matched-Path", "X-Middleware-Subrequest-*",
	// The method: Express, Rack and Rails, Symfony and Laravel, Slim, Plack, OData.
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method",
	// What WSGI servers cut off the path: gunicorn obeys a client's SCRIPT_NAME.
	"Script-Name", "X-Script-Name", "Path-Info",
	// The host, and so the site if the upstream serves several.
	"X-Host", "X-Original-Host", "X-HTTP-Host-Override", "Disguised-Host",
}

// serverVariables are the headers that become a variable of the server itself, such as
// HTTP_PROXY.
var serverVariables = []string{
	"Proxy",       // the proxy for the program's own calls: httpoxy, CVE-2016-5385
	"Remote-User", // the logged-in user, for frameworks that leave the login to a server
}

// connectionHeaders tell frameworks and content delivery networks where the client is and
// how it connected.
var connectionHeaders = []string{
	"Forwarded", "Forwarded-For", "X-Forwarded-*", "X-Original-Forwarded-For",
	"X-Original-For", "X-Original-Proto", "X-Original-Prefix", "X-Original-Remote-Addr", // ASP.NET and Azure
	"X-Real-IP", "Real-IP", "Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-Real-IP", "X-Connecting-IP",
	"X-Remote-IP", "X-Remote-Addr", "Remote-Addr", "Remote-Host", "X-Envoy-External-Address", "X-Envoy-Internal",
	"Proxy-Client-IP", "WL-Proxy-*", "X-Originating-IP", "X-ProxyUser-IP", "X-Custom-IP-Authorization",
	"True-Client-IP", "X-True-Client-IP", "X-True-IP",
	"CF-Connecting-*", "CF-Pseudo-IPv4", "CF-IPCountry", "CF-Visitor", "CloudFront-*", "Fastly-Client-*", "Fastly-SSL",
	"Fly-Client-IP", "DO-Connecting-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-Nf-*", "X-Vercel-Forwarded-For", "X-Vercel-Proxied-For", "X-Vercel-IP-*", "X-Sucuri-*",
	"Incap-Client-IP", "Ali-CDN-Real-IP", "CDN-Src-IP", "X-Akamai-Edgescape",
	"X-AppEngine-*", "X-CloudTasks-*", "X-CloudScheduler-*", // these also say that Google's cron or queue called
	"Front-End-Https", "Https", "X-Https", "X-Scheme", "X-URL-Scheme",
}

// identityHeaders tell upstreams who the user is, after a proxy has checked the login or
// the client's certificate.
var identityHeaders = []string{
	"X-Auth-Request-*",                             // OAuth2 Proxy, which also writes X-Forwarded-User and the like
	"Remote-Groups", "Remote-Email", "Remote-Name", // Authelia
	"X-Authentik-*", "X-Pomerium-*", "X-Vouch-*", "Tailscale-*",
	"X-WebAuth-*",                                         // Grafana
	"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-*", // Kubernetes
	"X-Amzn-Oidc-*", "X-Amzn-Mtls-*", // Application Load Balancer
	"X-MS-Client-Principal-*", "X-MS-Token-*", // Azure
	"MS-AspNetCore-*", "X-ARR-ClientCert", // IIS in front of ASP.NET
	"X-Goog-Authenticated-User-*", "X-Goog-IAP-*", // Google's Identity-Aware Proxy
	"CF-Access-Authenticated-*", "CF-Access-JWT-Assertion",
	// Kong
	"X-Authenticated-*", "X-Consumer-ID", "X-Consumer-Custom-ID", "X-Consumer-Username", "X-Consumer-Groups",
	"X-Credential-Identifier", "X-Anonymous-Consumer", "X-Userinfo",
	// modules of Apache, SiteMinder, IBM and Oracle
	"OIDC-*", "Mellon-*", "Shib-*", "SM-User", "SM-UniversalID", "SM-ServerSessionID",
	"IV-User", "IV-Groups", "IV-Creds", "OAM-Remote-User",
	// the client's certificate: RFC 9440, and before it
	"Client-Cert-*", "X-Client-Cert-*", "X-Client-Verify", "X-Client-DN", "SSL-Client-*", "X-SSL-*",
}

// A nameSet holds normalized names.
type nameSet struct {
	whole, prefixes map[string]struct{}
}

func newNameSet(lists ...[]string) nameSet {
	s := nameSet{map[string]struct{}{}, map[string]struct{}{}}
	for _, names := range lists {
		for _, name := range names {
			name, isPrefix := strings.CutSuffix(name, "-*")
			s.whole[string(appendNormalized(nil, name))] = struct{}{}
			if isPrefix {
				s.prefixes[string(appendNormalized(nil, name))] = struct{}{}
			}
		}
	}
	return s
}

// contains does not allocate: it is called for every header of every request.
func (s nameSet) contains(normalized []byte) bool {
	if _, ok := s.whole[string(normalized)]; ok {
		return true
	}
	for i := range dashes(normalized) {
		if _, ok := s.prefixes[string(normalized[:i])]; ok {
			return true
		}
	}
	return false
}

// dashes yields where the first dashes of a name are. No prefix has more than maxDashes.
func dashes(name []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		left := maxDashes
		for i, c := range name {
			if c != '-' {
				continue
			}
			if left--; left < 0 || !yield(i) {
				return
			}
		}
	}
}

// maxDashes is one more than X-Goog-Authenticated-User-* has before its end.
const maxDashes = 4
