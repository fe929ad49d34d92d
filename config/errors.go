package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// An Error is one fault of a configuration.
type Error struct {
	File    string // as it was given to Load or Parse
	Line    int    // from 1
	Path    string // such as plans.free.limits[0].requests; empty for the file as a whole
	Message string
	scope   string // the path below which values may be wrong because of it
}

// Error returns "FILE:LINE: path: message".
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Path, e.Message)
}

// Errors are all the faults of a configuration, by line.
type Errors []*Error

// Error returns one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults one by one.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// got returns the end of a message, which says what the file has instead. It is empty for a
// text that may be a URL with a password.
func got(text string) string {
	if text == "" || strings.Contains(text, "@") {
		return ""
	}
	return ", got " + text
}

// joinPath returns the path of a key.
func joinPath(path, key string) string {
	if path == "" {
		return printableKey(key)
	}
	return path + "." + printableKey(key)
}

// isBelow reports whether a path is outer, or leads to something in it.
func isBelow(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// indexPath returns the path of a list's element.
func indexPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// printableKey quotes an unusual key. Of the key "secret:hunter2", which should be a key and
// a value but lacks a space, only the first part is shown.
func printableKey(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	if i := strings.IndexByte(key, ':'); i >= 0 {
		return quoteShort(key[:i+1] + "...")
	}
	return quoteShort(key)
}

// quoteShort quotes text for a message. Of a long text it quotes the beginning.
func quoteShort(text string) string {
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:60]) + "..."
	}
	return strconv.Quote(text)
}

// suggest returns the name that a misspelt word probably means, or "" if none is close.
func suggest(word string, names []string) string {
	best, distance := "", max(1, min(len(word), 64)/3)+1
	for _, name := range names {
		if d := editDistance(strings.ToLower(strings.ReplaceAll(word, "-", "_")), name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns the least number of letters to insert, drop, replace or swap with
// their neighbour that turns a into b (optimal string alignment). Words over 64 bytes, which
// are longer than any name, count as entirely different.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var rows [3][]int // rows i-2, i-1 and i of the table
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[2] {
		rows[2][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[0], rows[1], rows[2] = rows[1], rows[2], rows[0]
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			differ := 0
			if a[i-1] != b[j-1] {
				differ = 1
			}
			d := min(rows[1][j]+1, rows[2][j-1]+1, rows[1][j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[0][j-2]+1)
			}
			rows[2][j] = d
		}
	}
	return rows[2][len(b)]
}
