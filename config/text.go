package config

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"metergate/proxy/jwtauth/jwtrules"
	"metergate/proxy/reported"
	"metergate/quota"
)

var (
	endpointRule = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	prefixRule   = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
	cookieRule   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	hostRule     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
	schemeRule   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
)

// checkText checks a text by the rules that the tag "as" names.
func checkText(text, as string) error {
	switch as {
	case "address":
		_, err := ParseListen(text)
		return err
	case "algorithm":
		return oneOf(text, jwtrules.Algorithms()...)
	case "carry":
		return checkCarry(text)
	case "claim":
		_, err := jwtrules.ParseClaimPath(text)
		return err
	case "collector":
		return checkCollector(text)
	case "cookiename":
		return checkCookieName(text)
	case "costsource":
		return checkCostSource(text)
	case "endpoint":
		if !endpointRule.MatchString(text) {
			return errors.New("must have 1 to 64 of a-z, 0-9 and -")
		}
	case "file", "folder":
		if text == "" {
			return fmt.Errorf("must be the name of a %s", as)
		}
	case "header":
		return checkHeader(text)
	case "host":
		return checkHost(text)
	case "issuername":
		if text != "" && !quota.IsName(text) {
			return errors.New("must have 1 to 64 letters, digits, - and _")
		}
	case "jwks", "webhook":
		if text == "" && as == "jwks" {
			return nil // the same as no key
		}
		return checkPrivate(text)
	case "mediatype":
		if text != "" {
			return jwtrules.CheckType(text)
		}
	case "origin":
		return checkOrigin(text)
	case "parameter":
		return checkParameter(text)
	case "passed":
		return checkPassedHeader(text)
	case "path":
		return checkPath(text)
	case "prefix":
		if !prefixRule.MatchString(text) {
			return errors.New("must have 1 to 64 letters, digits and any of _ . : -")
		}
	case "service":
		return checkServiceName(text)
	case "servername":
		if _, err := netip.ParseAddr(text); err != nil && !hostRule.MatchString(text) {
			return errors.New("must be a name or an IP address, without a port")
		}
	case "strip":
		switch {
		case strings.Contains(text, "{"):
			return errors.New("must not have wildcards")
		case strings.HasSuffix(text, "/"):
			return errors.New("must not end with a slash; /api also stands for everything below /api/")
		}
		return checkPath(text)
	case "unitname":
		return checkUnitName(text)
	case "url":
		if text == "" {
			return nil // the same as no key
		}
		_, err := parseHTTP(text)
		return err
	}
	return nil
}

// checkCookieName checks the name of the cookie with the token.
func checkCookieName(text string) error {
	if !cookieRule.MatchString(text) {
		return errors.New("must be the name of a cookie, 1 to 64 letters, digits and any of _ - . , such as __Host-session")
	}
	return nil
}

// checkParameter checks the name of the parameter with the token; empty: there is none.
func checkParameter(text string) error {
	if text != "" && !cookieRule.MatchString(text) {
		return errors.New("must be the name of a parameter, 1 to 64 letters, digits and any of _ - . , such as access_token")
	}
	return nil
}

// checkServiceName checks the name of the gateway in traces.
func checkServiceName(text string) error {
	if text == "" || len(text) > 255 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("must have 1 to 255 bytes and no control characters, such as metergate")
	}
	return nil
}

func checkUnitName(text string) error {
	if text == "" || len(text) > 32 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("must have 1 to 32 bytes and no control characters, such as credits")
	}
	return nil
}

// checkCostSource checks where a response reports the cost.
func checkCostSource(text string) error {
	kind, name, _ := strings.Cut(text, " ")
	name = strings.TrimSpace(name)
	switch {
	case kind == "json":
		if _, err := reported.ParsePath(name); err != nil {
			return fmt.Errorf("what follows json %w", err)
		}
		return nil
	case kind != "header" || !headerRule.MatchString(name):
		return errors.New(`must be "header NAME" or "json PATH", such as "header X-Report-Cost" or "json usage.total_tokens"`)
	}
	name = http.CanonicalHeaderKey(name)
	gateways := name == "X-Usage" || strings.HasPrefix(name, "X-Usage-") || strings.HasPrefix(name, "X-Ratelimit-") || strings.HasPrefix(name, "Ratelimit") || strings.HasPrefix(name, "Access-Control-")
	browsers := strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "Cross-Origin-") || strings.HasPrefix(name, "Sec-")
	if gateways || browsers || slices.Contains(setHeaders, name) || slices.Contains(answerHeaders, name) {
		return errors.New("must not be a header with a meaning of its own; use another one, such as X-Report-Cost")
	}
	return nil
}

// answerHeaders tell clients and caches what to do with a response. The client would miss one that
// the gateway takes out because it reports the cost.
var answerHeaders = []string{
	"Accept-Ch", "Accept-Patch", "Accept-Post", "Accept-Ranges", "Age", "Allow", "Alt-Svc", "Authentication-Info",
	"Cache-Control", "Cdn-Cache-Control", "Clear-Site-Data", "Date", "Deprecation", "Etag", "Expires", "Last-Modified", "Link",
	"Location", "Origin-Agent-Cluster", "Permissions-Policy", "Pragma", "Preference-Applied", "Proxy-Authentication-Info",
	"Proxy-Status", "Referrer-Policy", "Refresh", "Reporting-Endpoints", "Retry-After", "Server-Timing", "Service-Worker-Allowed",
	"Set-Cookie", "Sourcemap", "Strict-Transport-Security", "Sunset", "Surrogate-Control", "Timing-Allow-Origin",
	"Traceparent", "Tracestate", "Vary", "Via", "Warning", "Www-Authenticate",
	"X-Accel-Buffering", "X-Accel-Expires", "X-Accel-Redirect", "X-Content-Type-Options", "X-Frame-Options", "X-Robots-Tag",
	"X-Should-Retry",
}

var headerRule = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// reservedHeaders have a meaning for HTTP, for proxies or for the gateway itself.
var reservedHeaders = []string{
	// Headers of one connection: RFC 9110, section 7.6.1.
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Proxy-Authenticate", "Proxy-Authorization", "Authorization", "Cookie", "Expect", "Forwarded", "Host", "Via",
	"X-Request-Id", "X-Real-Ip", "Traceparent", "Tracestate",
}

// checkHeader checks the name of a header that the gateway sets for upstreams.
func checkHeader(text string) error {
	// HTTP allows an underscore. But CGI and WSGI servers read X_User as X-User, and other
	// servers drop such headers.
	if !headerRule.MatchString(text) {
		return errors.New("must be the name of a header, 1 to 64 letters, digits and -, such as X-User")
	}
	name := http.CanonicalHeaderKey(text)
	if slices.Contains(reservedHeaders, name) || strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "X-Forwarded-") {
		return errors.New("must not be a header with a meaning of its own; use another one, such as X-User")
	}
	return nil
}

// setHeaders are those that the gateway writes, or that belong to one connection. It cannot
// let a client's through.
var setHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Proxy-Authenticate", "Proxy-Authorization", "Content-Length", "Host", "Forwarded",
	"X-Request-Id", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
}

// checkPassedHeader checks the name of a header that is let through.
func checkPassedHeader(text string) error {
	if !headerRule.MatchString(text) {
		return errors.New("must be the name of a header, 1 to 64 letters, digits and -, such as X-Auth-Request-Email")
	}
	if slices.Contains(setHeaders, http.CanonicalHeaderKey(text)) {
		return errors.New("must not be a header that the gateway sets or that belongs to a connection")
	}
	return nil
}
