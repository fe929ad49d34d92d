package config

import "testing"

func TestExpandReplacesVariables(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "_b2": "two", "EMPTY": "", "NESTED": "${A}$$"}[name]
		return v, ok
	}
	for _, c := range []struct {
		in, want string
		expanded bool
	}{
		{"", "", false},
		{"plain", "plain", false},
		{"${A}", "1", true},
		{"x${A}y${_b2}z", "x1ytwoz", true},
		{"${A}${A}", "11", true},
		{"${EMPTY}", "", true},
		{"${EMPTY:-d}", "d", true},
		{"${A:-d}", "1", true},
		{"${NOT:-d}", "d", true},
		{"${NOT:-}", "", true},
		{"${NOT:-http://h:1/}", "http://h:1/", true},
		{"${NOT:-a:-b}", "a:-b", true},
		{"${NOT:-$$}", "$$", true},
		{"${NESTED}", "${A}$$", true},
		{"$", "$", false},
		{"$A", "$A", false},
		{"a$", "a$", false},
		{"$$", "$", false},
		{"$$$", "$$", false},
		{"$$$$", "$$", false},
		{"$${A}", "${A}", false},
		{"$$${A}", "$1", true},
		{"{$}", "{$}", false},
		{"}", "}", false},
	} {
		got, expanded, err := expand(c.in, lookup)
		if got != c.want || expanded != c.expanded || err != nil {
			t.Errorf("%q: got %q, %v, %v; want %q, %v", c.in, got, expanded, err, c.want, c.expanded)
		}
	}
	for _, in := range []string{
		"${", "${A", "x${A:-", "${}", "${ A}", "${A }", "${1}", "${A-d}", "${A:?d}", "${A:}", "${Ä}", "${:-d}", "${a.b}",
		"${NOT}", "${A:-${A}}", "${A}${NOT}",
	} {
		if got, _, err := expand(in, lookup); err == nil {
			t.Errorf("%q: got %q", in, got)
		}
	}
}
