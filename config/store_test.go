package config

import (
	"fmt"
	"strings"
	"testing"
)

// The rules for Redis URLs are tested in package redisurl. This test is about the place
// and the text of the message.
func TestStoreURLFaultDoesNotShowURL(t *testing.T) {
	for url, want := range map[string]string{
		"redis+ring://:hunter2@h:1":    "must be embedded:DIR, redis://HOST:PORT, rediss://HOST:PORT, ",
		"unix+cluster://:hunter2@h:1":  "must be embedded:DIR, redis://HOST:PORT, rediss://HOST:PORT, ",
		"redis+cluster://:hunter2@h:0": "host 1 of 1 must have a port of 1 to 65535",
		"redis://:hunter2%zz@h:1":      "is not a URL; the port must be a number, and special characters",
	} {
		_, err := Parse("x.yaml", fmt.Appendf(nil, base, fmt.Sprintf("store: { url: %q }", url)), environment)
		if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:") || !strings.Contains(err.Error(), " store.url: "+want) {
			t.Errorf("%s: error %v, want store.url: %s", url, err, want)
		} else if strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: shows the password: %v", url, err)
		}
	}
}
