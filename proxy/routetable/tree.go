package routetable

import (
	"fmt"
	"strings"

	"metergate/proxy/urlpath"
)

// A node is where paths that begin with the same segments part.
//
//	GET /items, GET /items/{id}, GET /items/new, GET /tree/
//
//	"" ─┬─ items (end) ─┬─ new (end)
//	    │               └─ {} (end)
//	    └─ tree (rest)
type node[R any] struct {
	literal  map[string]*node[R] // by the next segment, decoded
	wildcard *node[R]            // {name}: any next segment
	end      *R                  // the path ends here
	slash    *R                  // {$}: the path ends after one more slash
	rest     *R                  // {name...} or a slash: anything may follow a slash
}

// add puts a route below n. path is the remaining path of its pattern.
func (n *node[R]) add(path string, route *R) error {
	if path == "" {
		n.end = route
		return nil
	}
	segment, rest := firstSegment(path)
	switch {
	case path == "/", strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "...}"):
		n.rest = route
		return nil
	case segment == "{$}":
		n.slash = route
		return nil
	case strings.HasPrefix(segment, "{"):
		if n.wildcard == nil {
			n.wildcard = &node[R]{}
		}
		return n.wildcard.add(rest, route)
	}
	if err := urlpath.CheckSegment(segment); err != nil {
		return fmt.Errorf("it can never match a request: %w", err)
	}
	segment = urlpath.DecodeSegment(segment)
	if n.literal == nil {
		n.literal = map[string]*node[R]{}
	}
	if n.literal[segment] == nil {
		n.literal[segment] = &node[R]{}
	}
	return n.literal[segment].add(rest, route)
}

// find returns the most specific route for path, or nil if there is none. path is the
// remaining path of the request. A literal is more specific than a wildcard, and a
// wildcard more specific than the rest.
func (n *node[R]) find(path string) *R {
	switch {
	case n == nil:
		return nil
	case path == "":
		return n.end
	case path == "/" && n.slash != nil:
		return n.slash
	case path == "/":
		return n.rest
	}
	segment, rest := firstSegment(path)
	if route := n.literal[urlpath.DecodeSegment(segment)].find(rest); route != nil {
		return route
	}
	if route := n.wildcard.find(rest); route != nil {
		return route
	}
	return n.rest
}

// firstSegment splits a path that begins with a slash: "/a/b" is "a" and "/b".
func firstSegment(path string) (segment, rest string) {
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}
