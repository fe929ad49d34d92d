package urlpath

import (
	"net/netip"
	"strings"
)

// IsHostName reports whether name can be the host of a request or a pattern: labels of
// letters, digits, - and _, joined by dots, with at most 253 bytes. Names in other
// alphabets have such a form too (RFC 5891), and browsers send that form.
func IsHostName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !neverEscaped(c) || c == '~' {
				return false
			}
		}
	}
	return len(name) <= 253
}

// IsBracketedIPv6 reports whether host is an IPv6 address in brackets, without a zone.
func IsBracketedIPv6(host string) bool {
	if !strings.HasPrefix(host, "[") || !strings.HasSuffix(host, "]") {
		return false
	}
	ip, err := netip.ParseAddr(host[1 : len(host)-1])
	return err == nil && ip.Is6() && ip.Zone() == ""
}
