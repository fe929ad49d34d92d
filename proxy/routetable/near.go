package routetable

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"metergate/proxy/urlpath"
)

// Near matches.
//
// Many frameworks serve more paths with a handler than the one it was written for: Express
// and ASP.NET ignore letter case, Express, Flask and Spring a slash at the end, Spring and
// other Java servers what follows a semicolon, Rails and older Spring a file extension. All
// these reach the handler of /api/analyze somewhere:
//
//	/api/Analyze    /api/analyze/    /api;v=1/analyze    /api/analyze.json
//
// A path that a pattern would match if these four were ignored is a near match of it.

// A NearTable finds the paths that a request's path nearly is. The zero value is empty.
// Finding is safe for concurrent use once all patterns are added.
type NearTable struct {
	hosts map[string]*nearNode
}

// Add adds a pattern that a [Table] has accepted.
func (t *NearTable) Add(pattern string) {
	_, host, path := urlpath.SplitPattern(pattern)
	if t.hosts == nil {
		t.hosts = map[string]*nearNode{}
	}
	if t.hosts[host] == nil {
		t.hosts[host] = &nearNode{}
	}
	n := t.hosts[host]
	for _, s := range segmentsOf(path) {
		n = n.add(s)
	}
	n.end = true
}

// Find calls found for paths that patterns of the table match and that path nearly is, until
// found returns true. path itself is not one of them. host is in lower case and path is
// canonical. It does not allocate if there is no such path.
func (t *NearTable) Find(host, path string, found func(nearPath string) bool) bool {
	var buf [256]byte
	return t.hosts[host].find(path, buf[:0], false, found) || host != "" && t.hosts[""].find(path, buf[:0], false, found)
}

// A nearNode is where patterns that begin with the same segments part.
type nearNode struct {
	literal map[string][]nearLiteral // by folded segment
	longest int                      // bytes of the longest of these keys
	// The nodes behind {name}, {$}, and {name...} or a slash at the end; nil: no pattern
	// has that here. Nothing follows the last two.
	wildcard, slash, rest *nearNode
	end                   bool // a pattern ends here
}

// A nearLiteral is one spelling of a segment.
type nearLiteral struct {
	spelling string // as the pattern has it
	node     *nearNode
}

// add returns the node behind a segment of a pattern.
func (n *nearNode) add(s segment) *nearNode {
	child := func(at **nearNode) *nearNode {
		if *at == nil {
			*at = &nearNode{}
		}
		return *at
	}
	switch s.kind {
	case wildcard:
		return child(&n.wildcard)
	case slashOnly:
		return child(&n.slash)
	case rest:
		return child(&n.rest)
	}
	key := string(appendFolded(nil, withoutParameters(urlpath.DecodeSegment(s.text))))
	for _, l := range n.literal[key] {
		if l.spelling == s.text {
			return l.node
		}
	}
	if n.literal == nil {
		n.literal = map[string][]nearLiteral{}
	}
	l := nearLiteral{s.text, &nearNode{}}
	n.literal[key] = append(n.literal[key], l)
	n.longest = max(n.longest, len(key))
	return l.node
}

// find looks for patterns below n. path is the remaining path of the request, prefix what
// the pattern has instead of the path before it, and changed whether these two differ.
func (n *nearNode) find(path string, prefix []byte, changed bool, found func(string) bool) bool {
	if n == nil {
		return false
	}
	if path != "" && n.rest != nil && changed && found(string(prefix)+path) {
		return true
	}
	if isPathEnd(path) {
		hasSlash := path != ""
		switch {
		case n.end && (changed || hasSlash) && found(string(prefix)):
			return true
		case n.slash != nil && (changed || path != "/") && found(string(prefix)+"/"):
			return true
		}
		return n.rest != nil && !hasSlash && found(string(prefix)+"/")
	}
	sent, remaining := firstSegment(path)
	decoded := urlpath.DecodeSegment(sent)
	var buf [64]byte
	folded := appendFolded(buf[:0], withoutParameters(decoded))
	if n.literals(folded).find(decoded, remaining, prefix, changed, found) {
		return true
	}
	if isPathEnd(remaining) {
		// A longer name cannot be one of the literals, however many dots it has.
		for i := range min(len(folded), n.longest+1) {
			if folded[i] == '.' && n.literals(folded[:i]).find(decoded, remaining, prefix, changed, found) {
				return true
			}
		}
	}
	return n.wildcard != nil && n.wildcard.find(remaining, append(append(prefix, '/'), sent...), changed, found)
}

type nearLiterals []nearLiteral

func (n *nearNode) literals(folded []byte) nearLiterals { return n.literal[string(folded)] }

// find looks for patterns behind the spellings of a segment. sent is the segment of the
// request, decoded.
func (l nearLiterals) find(sent, remaining string, prefix []byte, changed bool, found func(string) bool) bool {
	for _, x := range l {
		differs := changed || urlpath.DecodeSegment(x.spelling) != sent
		if x.node.find(remaining, append(append(prefix, '/'), x.spelling...), differs, found) {
			return true
		}
	}
	return false
}

// isPathEnd reports whether path has no more segments. A slash may follow the last one, and
// a Java server takes "/;v=1" for such a slash, and Spring "/.json".
func isPathEnd(path string) bool {
	if len(path) > 1 {
		s, remaining := firstSegment(path)
		name := withoutParameters(urlpath.DecodeSegment(s))
		return remaining == "" && (name == "" || name[0] == '.')
	}
	return true
}

// withoutParameters cuts off what follows a semicolon.
func withoutParameters(segment string) string {
	before, _, _ := strings.Cut(segment, ";")
	return before
}

// appendFolded appends text in a form that all its spellings in upper and lower case share.
// Via upper case, so that the dotless i becomes an i: to Java, they are equal.
func appendFolded(b []byte, text string) []byte {
	for _, r := range text {
		if r >= utf8.RuneSelf {
			r = unicode.ToLower(unicode.ToUpper(r))
		} else if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// A segment is a part of a pattern's path.
type segment struct {
	kind segmentKind
	text string // of a literal, as the pattern has it
}

type segmentKind int

const (
	literal segmentKind = iota
	wildcard
	slashOnly // {$}
	rest      // {name...}, or a slash at the end
)

// segmentsOf splits the path of a pattern.
func segmentsOf(path string) (segments []segment) {
	texts := strings.Split(path[1:], "/")
	for i, text := range texts {
		s := segment{literal, text}
		switch {
		case text == "{$}":
			s.kind = slashOnly
		case text == "" && i == len(texts)-1, strings.HasSuffix(text, "...}"):
			s.kind = rest
		case strings.HasPrefix(text, "{"):
			s.kind = wildcard
		}
		segments = append(segments, s)
	}
	return segments
}

// HasWildcards reports whether a pattern matches more than one path of a host.
func HasWildcards(pattern string) bool {
	_, _, path := urlpath.SplitPattern(pattern)
	return slices.ContainsFunc(segmentsOf(path), func(s segment) bool { return s.kind == wildcard || s.kind == rest })
}

// MayBeNear reports whether a request that pattern matches may be a near match of other. A
// last segment that is nothing but parameters or an extension, as in /items/;v=1, does not
// count here: every /items/{id} would be near /items.
func MayBeNear(pattern, other string) bool {
	_, _, p := urlpath.SplitPattern(pattern)
	_, _, otherPath := urlpath.SplitPattern(other)
	return mayMatchTogether(pattern, other) && mayBeNear(segmentsOf(p), segmentsOf(otherPath), false)
}

// mayMatchTogether reports whether two patterns have a method and a host in common.
func mayMatchTogether(pattern, other string) bool {
	m, h, _ := urlpath.SplitPattern(pattern)
	otherMethod, otherHost, _ := urlpath.SplitPattern(other)
	return (h == "" || otherHost == "" || h == otherHost) &&
		(m == "" || otherMethod == "" || m == otherMethod || m == "HEAD" && otherMethod == "GET")
}

// mayBeNear compares the remaining segments of two patterns. changed: what is before them is
// not the same.
func mayBeNear(p, other []segment, changed bool) bool {
	ends := func(s []segment) bool { return len(s) == 0 || s[0].kind == slashOnly }
	switch {
	case ends(p) && ends(other):
		return changed || len(p) != len(other)
	case len(other) > 0 && other[0].kind == rest:
		return changed || len(p) == 0
	case len(p) > 0 && p[0].kind == rest:
		return true
	case ends(p) || ends(other):
		return false
	case other[0].kind == wildcard:
		return mayBeNear(p[1:], other[1:], changed)
	case p[0].kind == wildcard:
		return mayBeNear(p[1:], other[1:], true)
	}
	sent, want := urlpath.DecodeSegment(p[0].text), urlpath.DecodeSegment(other[0].text)
	folded, wanted := string(appendFolded(nil, withoutParameters(sent))), string(appendFolded(nil, withoutParameters(want)))
	switch {
	case folded == wanted:
		return mayBeNear(p[1:], other[1:], changed || sent != want)
	case strings.HasPrefix(folded, wanted+"."):
		last := len(p) == 1 || p[1].kind == slashOnly || p[1].kind == rest
		return last && mayBeNear(p[1:], other[1:], true)
	}
	return false
}
