package redisclient

import "testing"

// TestServerName checks that a certificate must be for the name that was dialled, except that
// a node known only by its address may have that of the URL's first host.
func TestServerName(t *testing.T) {
	for _, c := range []struct{ addr, first, want string }{
		{"a.example:1", "a.example", "a.example"},
		{"b.example:1", "a.example", "b.example"},
		{"10.0.0.2:1", "a.example", "a.example"},
		{"[::1]:1", "a.example", "a.example"},
		{"10.0.0.2:1", "10.0.0.1", "10.0.0.2"},
		{"b.example:1", "10.0.0.1", "b.example"},
	} {
		if got := serverName(c.addr, c.first); got != c.want {
			t.Errorf("serverName(%q, %q) = %q, want %q", c.addr, c.first, got, c.want)
		}
	}
}
