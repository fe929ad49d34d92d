package config

import (
	"fmt"
	"testing"
)

// The admin listener must never be on the public listener, however the two are written.
func TestListenersMustNotShareAnAddress(t *testing.T) {
	for _, c := range []struct {
		listen, admin string
		same          bool
	}{
		{":8080", ":8080", true},
		{":8080", "0.0.0.0:8080", true},
		{":8080", "[::]:8080", true},
		{":8080", "127.0.0.1:8080", true},
		{":8080", "localhost:8080", true},
		{":8080", "gateway.internal:8080", true},
		{"0.0.0.0:8080", "[::]:8080", true},
		{"0.0.0.0:8080", "localhost:8080", true},
		{"[::ffff:0.0.0.0]:8080", "127.0.0.1:8080", true},
		{"gateway.internal:8080", "[::]:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true},
		{"127.0.0.1:8080", "localhost:8080", true},
		{"LocalHost:8080", "[::1]:8080", true},
		{"[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", true},
		{"localhost:8080", "Localhost:8080", true},
		{"gateway:8080", "Gateway:8080", true},

		{":8080", ":9090", false},
		{":0", ":0", false}, // the system chooses two different ports
		{"127.0.0.1:8080", "10.0.0.1:8080", false},
		{"127.0.0.1:8080", "[::1]:8080", false},
		{"127.0.0.1:8080", "127.0.0.2:8080", false},
		{"localhost:8080", "127.0.0.2:8080", false},
		{"localhost:8080", "10.0.0.1:8080", false},
		{"gateway.internal:8080", "10.0.0.1:8080", false}, // unknown before a lookup; the second listener fails to open
		{"gateway.internal:8080", "localhost:8080", false},
	} {
		for _, pair := range [][2]string{{c.listen, c.admin}, {c.admin, c.listen}} {
			text := fmt.Sprintf(base, fmt.Sprintf("listen: %q\nadmin: { listen: %q }", pair[0], pair[1]))
			_, err := Parse("x.yaml", []byte(text), environment)
			if (err != nil) != c.same {
				t.Errorf("listen %s, admin.listen %s: %v", pair[0], pair[1], err)
			}
		}
	}
}
