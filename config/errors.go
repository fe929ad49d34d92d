package config

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Error is one fault of a configuration.
type Error struct {
	File    string // as it was given to Load or Parse
	Line    int    // from 1
	Path    string // plans.free.limits[0].requests; empty: the file as a whole
	Message string
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

// A source is the file that is being read: where its values stand, and what is
// wrong with them.
type source struct {
	file   string
	lines  int
	places map[string]place // by path, of all values that are given
	failed map[string]bool  // the paths whose value cannot be used
	errs   Errors
	files  []string // that it names and that have been looked at
}

// A place is where a value stands.
type place struct {
	path string // its own, but with x_file where that was given for x
	line int
	// text is a scalar as the file has it, before variables; empty for a secret.
	text string
}

func newSource(file string, data []byte) *source {
	lines := bytes.Count(data, []byte("\n"))
	if !bytes.HasSuffix(data, []byte("\n")) {
		lines++
	}
	return &source{file: file, lines: lines, places: map[string]place{}, failed: map[string]bool{}}
}

// fault reports that the value of path, on this line, cannot be used.
func (s *source) fault(path string, line int, format string, args ...any) {
	s.failed[path] = true
	// YAML knows more line ends than editors count; stay within the file.
	line = max(1, min(line, s.lines))
	s.errs = append(s.errs, &Error{s.file, line, path, fmt.Sprintf(format, args...)})
}

// at is fault at the place of path or, when it is not given, of what it belongs in.
func (s *source) at(path, format string, args ...any) {
	s.failed[path] = true
	p, given := s.places[path]
	shown := path
	if given {
		shown = p.path
	}
	for up := path; !given && up != ""; {
		up = up[:max(0, strings.LastIndexAny(up, ".["))]
		p, given = s.places[up]
	}
	s.fault(shown, p.line, format, args...)
}

// given reports whether the file has a value for path, good or not.
func (s *source) given(path string) bool { _, ok := s.places[path]; return ok }

// line is that of a value which is given.
func (s *source) line(path string) int { return s.places[path].line }

// got is the end of a message about path: what was found there.
func (s *source) got(path string) string { return got(s.places[path].text) }

// got leaves out what may be a URL with a password.
func got(text string) string {
	if text == "" || strings.Contains(text, "@") {
		return ""
	}
	return ", got " + text
}

func (s *source) sorted() Errors {
	slices.SortStableFunc(s.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	return s.errs
}

// join is the path of a key.
func join(path, key string) string {
	if path == "" {
		return shownKey(key)
	}
	return path + "." + shownKey(key)
}

// index is the path of a list's element.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// shownKey quotes an unusual key. Of "secret:hunter2", a value that became a key
// because a blank is missing, only the first part is shown.
func shownKey(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	if i := strings.IndexByte(key, ':'); i >= 0 {
		return shorten(key[:i+1] + "...")
	}
	return shorten(key)
}

// shorten quotes text for a message, its beginning if it is long.
func shorten(text string) string {
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:60]) + "..."
	}
	return strconv.Quote(text)
}
