package proxy

import (
	"strings"
	"testing"
	"unsafe"
)

// The metrics keep their labels for ever. A method that is a part of a request's first line would keep that line.
func TestKnownMethodIsNoPartOfRequestLine(t *testing.T) {
	for _, name := range append(knownMethods, "BREW") {
		line := strings.Join([]string{name, "/", strings.Repeat("x", 100), "HTTP/1.1"}, " ")
		got := knownMethod(line[:len(name)])
		if got != name && got != "other" || unsafe.StringData(got) == unsafe.StringData(line) {
			t.Errorf("%s: %q is a part of %q", name, got, line)
		}
	}
}
