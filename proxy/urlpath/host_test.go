package urlpath

import (
	"strings"
	"testing"
)

func TestIsHostName(t *testing.T) {
	for name, want := range map[string]bool{
		"h": true, "h.example": true, "H.Example": true, "my_host-1": true, "10.0.0.1": true, "xn--gre-6ka.example": true,
		strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 127) + "a": false,
		"": false, ".": false, "h.": false, ".h": false, "a..b": false, "a b": false, "a@b": false, "a~b": false, "a:1": false,
		"größe.example": false, "[::1]": false, "%61": false,
	} {
		if got := IsHostName(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func TestIsBracketedIPv6(t *testing.T) {
	for host, want := range map[string]bool{
		"[::1]": true, "[2001:db8::1]": true,
		"": false, "::1": false, "[::1": false, "::1]": false, "[a]": false, "[10.0.0.1]": false, "[fe80::1%eth0]": false, "[]": false,
	} {
		if got := IsBracketedIPv6(host); got != want {
			t.Errorf("%q: got %v", host, got)
		}
	}
}
