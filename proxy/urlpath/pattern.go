package urlpath

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// SplitPattern splits a well-formed pattern of http.ServeMux, "[METHOD ][HOST]/[PATH]".
// The method and the host may be empty; the path begins with its slash.
func SplitPattern(pattern string) (method, host, path string) {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		method, pattern = pattern[:i], strings.TrimLeft(pattern[i:], " \t")
	}
	slash := strings.IndexByte(pattern, '/')
	return method, pattern[:slash], pattern[slash:]
}

// CutPrefix cuts as many segments off a path, or the path of a pattern, as prefix has. The
// rest begins with a slash. It does not compare bytes: routes match decoded segments, and a
// request may have escaped a character that the prefix has not.
func CutPrefix(path, prefix string) (cut, rest string) {
	end := 0
	for range strings.Count(prefix, "/") {
		next := strings.IndexByte(path[end+1:], '/')
		if next < 0 {
			return path, "/"
		}
		end += 1 + next
	}
	return path[:end], path[end:]
}

// RegisterPattern adds a pattern to mux with a handler that answers 404. It returns an
// error where [http.ServeMux.Handle] panics: the pattern is malformed, or conflicts with
// another one.
func RegisterPattern(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

// CheckSegment says why the literal segment of a pattern can match no request: every
// request with such a path is refused. A segment with a malformed escape stands for
// itself, as in http.ServeMux.
func CheckSegment(segment string) error {
	_, err := Canonicalize("/" + url.PathEscape(DecodeSegment(segment)) + "/")
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		return errors.New(refused.reason)
	}
	return err
}

// DecodeSegment returns a segment of a path or pattern in the form in which
// http.ServeMux compares them.
func DecodeSegment(segment string) string {
	if s, err := url.PathUnescape(segment); err == nil {
		return s
	}
	return segment
}
