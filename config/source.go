package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A source is the file that is being read: where its values stand, and which faults were
// found.
type source struct {
	file      string
	lines     int
	positions map[string]position // by path, of all values that are given
	failed    map[string]bool     // the paths whose value cannot be used
	errs      Errors
	files     []string // the files that it names, as far as they have been read
}

// A position is where a value stands.
type position struct {
	path string // its own, but with x_file where that was given for x
	line int
	// text is a scalar as the file has it, before variables are replaced. It is empty for a
	// secret.
	text string
}

func newSource(file string, data []byte) *source {
	lines := bytes.Count(data, []byte("\n"))
	if !bytes.HasSuffix(data, []byte("\n")) {
		lines++
	}
	return &source{file: file, lines: lines, positions: map[string]position{}, failed: map[string]bool{}}
}

// report adds a fault of the value of path, on this line.
func (s *source) report(path string, line int, format string, args ...any) {
	s.failed[path] = true
	// YAML knows more line ends than editors count, so the line could be after the last one.
	line = max(1, min(line, s.lines))
	s.errs = append(s.errs, &Error{s.file, line, path, fmt.Sprintf(format, args...), path})
}

// reportBelow is report for a fault that leaves it open what all values below scope are.
func (s *source) reportBelow(scope, path string, line int, format string, args ...any) {
	s.report(path, line, format, args...)
	s.errs[len(s.errs)-1].scope = scope
}

// reportAt adds a fault on the line where the value of path stands. If it is not given, the
// line is that of the collection it belongs to.
func (s *source) reportAt(path, format string, args ...any) {
	s.failed[path] = true
	p, given := s.positions[path]
	shown := path
	if given {
		shown = p.path
	}
	for up := path; !given && up != ""; {
		up = up[:max(0, strings.LastIndexAny(up, ".["))]
		p, given = s.positions[up]
	}
	s.report(shown, p.line, format, args...)
}

// given reports whether the file has a value for path, good or not.
func (s *source) given(path string) bool { _, ok := s.positions[path]; return ok }

// line returns the line of a value that is given.
func (s *source) line(path string) int { return s.positions[path].line }

// got returns the end of a message about path: what the file has there.
func (s *source) got(path string) string { return got(s.positions[path].text) }

// errorsAbout returns the faults because of which the values of some keys cannot be used, by
// line.
func (s *source) errorsAbout(keys []string) (about Errors) {
	for _, err := range s.sortedErrors() {
		if slices.ContainsFunc(keys, func(key string) bool { return isBelow(err.scope, key) || isBelow(key, err.scope) }) {
			about = append(about, err)
		}
	}
	return about
}

// sortedErrors returns the faults by line, those of other files at the end.
func (s *source) sortedErrors() Errors {
	elsewhere := func(e *Error) int {
		if e.File == s.file {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(s.errs, func(a, b *Error) int { return cmp.Or(elsewhere(a)-elsewhere(b), cmp.Compare(a.Line, b.Line)) })
	return s.errs
}
