package config

import (
	"errors"
	"strings"
	"testing"
)

// The YAML package alone does not give the line to look at.
func TestSyntaxErrorIsOnFaultyLine(t *testing.T) {
	for _, c := range []struct {
		what string
		bad  []string // ! marks the line to report
	}{
		{"indentation", []string{"x:", "  y:", "    z: 1", "!   w: 2", "q: 1"}},
		{"the first line", []string{"!a: @b", "c: d"}},
		{"a second colon", []string{"a: 1", "!b: c: d", "e: 1"}},
		{"an open bracket", []string{"a: 1", "!b: [c, d", "e: 1", "f: 1"}},
		{"an open quote", []string{"a: 1", "b:", "!  c: 'd", "e: 1"}},
		{"an unknown anchor", []string{"a: 1", "b:", "  - c", "!  - *d", "e: 1"}},
		{"a control character", []string{"a: 1", "!b: \x01", "c: 1"}},
		{"not UTF-8", []string{"a: 1", "!b: \xff", "c: 1"}},
		{"in the second document", []string{"a: 1", "---", "b: 1", "!c: @d"}},
		{"at the end", []string{"a: 1", "b: 1", "!c: {"}},
	} {
		want := 0
		for i, line := range c.bad {
			if strings.HasPrefix(line, "!") {
				want, c.bad[i] = i+1, line[1:]
			}
		}
		for _, end := range []string{"\n", "\r\n"} {
			_, err := Parse("x.yaml", []byte(strings.Join(c.bad, end)), environment)
			var faults Errors
			if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Line != want || !strings.Contains(faults[0].Message, "not valid YAML") {
				t.Errorf("%s: got %v, want line %d", c.what, err, want)
			}
		}
	}
}
