package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"metergate/proxy/urlpath"
)

// One host.
//
// Routes may be for a host, and upstreams may see it and serve several. As with
// paths, there is one way to write it, but for case, a port and the dot at the end of
// a full name. What net/http lets pass besides (a@b, a,b, %61) is refused.

// errHost: a request without a usable host. What wraps it is for clients to read.
var errHost = errors.New("the request's host is not valid")

// checkHost refuses a request that names no host, or something that is none.
func checkHost(r *http.Request) error {
	if r.Host == "" {
		if !r.ProtoAtLeast(1, 1) {
			return nil // HTTP/1.0 did not have the field
		}
		return fmt.Errorf("%w: it is empty", errHost) // RFC 9110 section 4.2.1
	}
	name, port := splitHost(r.Host)
	if !urlpath.IsBracketedIPv6(name) && !urlpath.IsHostName(strings.TrimSuffix(name, ".")) || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return fmt.Errorf("%w: it must be a name or an IP address, with or without a port", errHost)
	}
	return nil
}

// hostOf returns the host that a request is for, in lower case, without the port and
// without the dot at the end of a full name.
func hostOf(r *http.Request) string {
	name, _ := splitHost(r.Host)
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// splitHost splits "name:port". An IPv6 address keeps its brackets.
func splitHost(host string) (name, port string) {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i], host[i+1:]
	}
	return host, ""
}
