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
