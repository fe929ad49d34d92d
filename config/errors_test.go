package config

import (
	"errors"
	"testing"
)

func TestErrorsPrintOneLineForEachFault(t *testing.T) {
	one := &Error{File: "x.yaml", Line: 12, Path: "plans.free.limits[0].requests", Message: "must not be negative, got -1"}
	two := &Error{File: "x.yaml", Line: 13, Message: "is odd"}
	err := error(Errors{one, two})
	want := "x.yaml:12: plans.free.limits[0].requests: must not be negative, got -1\nx.yaml:13: is odd"
	if err.Error() != want {
		t.Errorf("got %s", err)
	}
	if !errors.Is(err, one) || !errors.Is(err, two) {
		t.Error("does not unwrap")
	}
}

func TestPrintableKeyHidesPossibleSecrets(t *testing.T) {
	for key, want := range map[string]string{
		"image-analysis": "image-analysis",
		"two words":      `"two words"`,
		"":               `""`,
		"secret:hunter2": `"secret:..."`,
		"line\nbreak":    `"line\nbreak"`,
	} {
		if got := printableKey(key); got != want {
			t.Errorf("%q: got %s, want %s", key, got, want)
		}
	}
}

func TestSuggestFindsMisspeltNames(t *testing.T) {
	names := []string{"listen", "shutdown_timeout", "admin", "cors", "log", "url", "url_file"}
	for word, want := range map[string]string{
		"listne":           "listen", // swapped
		"lsten":            "listen", // dropped
		"Listen":           "listen",
		"shutdown-timeout": "shutdown_timeout",
		"shutdownTimeout":  "shutdown_timeout",
		"logs":             "log",
		"uri":              "url",
		"corse":            "cors",
		"tls":              "",
		"token":            "",
		"":                 "",
		"metrics":          "",
	} {
		if got := suggest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"abc", "", 3},
		{"abc", "axc", 1}, {"abc", "ab", 1}, {"abc", "abcd", 1}, {"abc", "acb", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
