package urlpath

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// ErrBadHost is wrapped by the errors of [CheckHost]. Their texts are for clients.
var ErrBadHost = errors.New("the request's host is not valid")

// CheckHost returns an error if r has no usable host. A route may be for one host,
// and an upstream may serve several. If a host could be written in several ways, gateway and
// upstream could disagree about it. Only case, a port and the dot at the end of a full name
// may vary.
// Other forms that net/http accepts (a@b, a,b, %61) are refused.
func CheckHost(r *http.Request) error {
	if r.Host == "" {
		if !r.ProtoAtLeast(1, 1) {
			return nil // HTTP/1.0 did not have the header
		}
		return fmt.Errorf("%w: it is empty", ErrBadHost) // RFC 9110 section 4.2.1
	}
	name, port := splitHost(r.Host)
	if !IsBracketedIPv6(name) && !IsHostName(strings.TrimSuffix(name, ".")) || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return fmt.Errorf("%w: it must be a name or an IP address, with or without a port", ErrBadHost)
	}
	return nil
}

// HostOf returns the host that r is for, as patterns name it: in lower case, without the
// port, and without the dot at the end of a full name.
func HostOf(r *http.Request) string {
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
