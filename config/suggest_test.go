package config

import "testing"

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
