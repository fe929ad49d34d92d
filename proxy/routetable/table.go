// Package routetable finds the route of a request. The patterns are those of
// [http.ServeMux], and a ServeMux decides which patterns are valid and which conflict.
// It cannot find the routes itself: it would redirect /tree to /tree/, even when another
// pattern matches /tree, and its Allow header would name methods that only /tree/ has.
package routetable

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"metergate/proxy/urlpath"
)

// A Table finds routes, of any type R, by host, method and path. Finding is safe for
// concurrent use once all routes are added. The zero value is not usable, see New.
type Table[R any] struct {
	mux *http.ServeMux // checks the patterns
	// hosts holds a tree of paths for each host and method of the patterns. The empty
	// host and the empty method stand for any.
	hosts map[string]map[string]*node[R]
}

// New returns a table without routes.
func New[R any]() *Table[R] {
	return &Table[R]{mux: http.NewServeMux(), hosts: map[string]map[string]*node[R]{}}
}

// Add adds a route. It returns an error for a pattern that is malformed, that conflicts
// with another one, or that can never match a request.
func (t *Table[R]) Add(pattern string, route *R) error {
	if err := urlpath.RegisterPattern(t.mux, pattern); err != nil {
		return err
	}
	method, host, path := urlpath.SplitPattern(pattern)
	if host != strings.ToLower(host) {
		return errors.New("the host must be in lower case")
	}
	if host != "" && !urlpath.IsHostName(host) && !urlpath.IsBracketedIPv6(host) {
		return errors.New("it can never match: such hosts are refused")
	}
	if t.hosts[host] == nil {
		t.hosts[host] = map[string]*node[R]{}
	}
	if t.hosts[host][method] == nil {
		t.hosts[host][method] = &node[R]{}
	}
	return t.hosts[host][method].add(path, route)
}

// Find returns the most specific route, or nil if there is none: one for the host before
// one for any host, then one for the method, then one for the path. host is in lower case
// and path is canonical, see package urlpath. GET routes also serve HEAD.
//
// This order is right for method and path because of the ServeMux: if each of two
// patterns is more specific in one of them, it refuses the second.
func (t *Table[R]) Find(host, method, path string) *R {
	for _, trees := range [...]map[string]*node[R]{t.hosts[host], t.hosts[""]} {
		if route := trees[method].find(path); route != nil {
			return route
		}
		if method == http.MethodHead {
			if route := trees[http.MethodGet].find(path); route != nil {
				return route
			}
		}
		if route := trees[""].find(path); route != nil {
			return route
		}
	}
	return nil
}

// anyMethod is what a route without a method is said to serve. TRACE is not one of them:
// its response would show the headers that the gateway adds.
var anyMethod = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// Methods returns, sorted, the methods for which there is a route. GET brings HEAD.
func (t *Table[R]) Methods(host, path string) []string {
	var found []string
	for _, trees := range [...]map[string]*node[R]{t.hosts[host], t.hosts[""]} {
		for method, tree := range trees {
			if tree.find(path) == nil {
				continue
			}
			switch method {
			case "":
				found = append(found, anyMethod...)
			case http.MethodGet:
				found = append(found, method, http.MethodHead)
			default:
				found = append(found, method)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
