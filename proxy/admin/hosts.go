package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// knownHostsOnly refuses requests for a name that is not the listener's. A page on
// evil.example can have its own name resolve to 127.0.0.1, and a browser then takes the
// listener for that page's origin, so that the page reads the metrics (DNS rebinding). An
// address in Host was in the URL, and nobody can make it lead elsewhere.
func (h *handler) knownHostsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := hostName(r.Host)
		if isLoopbackOrAddress(name) || h.Gateway != nil && slices.ContainsFunc(h.Gateway.AdminHosts(), func(host string) bool { return strings.EqualFold(host, name) }) {
			next.ServeHTTP(w, r)
			return
		}
		h.refused.WithLabelValues(wrongHost).Inc()
		if !h.wrongHostLogged.Swap(true) {
			h.Log.Warn("a request to the admin listener was refused because of its Host header; if it was meant for this gateway, add the name to admin.hosts", "host", name[:min(len(name), 253)])
		}
		writeProblem(w, http.StatusMisdirectedRequest, "The admin listener does not answer for the name in the Host header. Use an address, or add the name to admin.hosts.", nil)
	})
}

// hostName returns a Host header without its port, the brackets of IPv6 and a final dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	return strings.TrimSuffix(host, ".")
}

// isLoopbackOrAddress reports whether name is an address, or a name that browsers resolve to
// a loopback address without asking a server (RFC 6761, section 6.3). No name at all, as in
// HTTP/1.0, does not come from a browser.
func isLoopbackOrAddress(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return true
	}
	lower := strings.ToLower(name)
	return lower == "localhost" || strings.HasSuffix(lower, ".localhost")
}
