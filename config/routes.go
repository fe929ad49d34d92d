package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"metergate/proxy/urlpath"
)

func (c *checker) routes() {
	if !c.usable("routes") {
		return
	}
	if len(c.cfg.Routes) == 0 {
		c.src.at("routes", "must have at least one route")
	}
	mux := http.NewServeMux()
	var registered []int
	same := map[string]int{} // the route of a pattern
	for i := range c.cfg.Routes {
		r := &c.cfg.Routes[i]
		path := index("routes", i)
		r.Line = c.src.line(path)
		c.routeChoices(path, r)
		if up := path + ".upstream"; c.usable(up, "upstreams") {
			u, ok := c.cfg.Upstreams[r.Upstream]
			if !ok {
				c.src.at(up, "there is no such upstream%s; the upstreams are %s", c.src.got(up), listed(slices.Sorted(maps.Keys(c.cfg.Upstreams))))
			}
			if !c.src.given(path + ".timeout") {
				r.Timeout = u.Timeout
			}
			if !c.src.given(path + ".max_body") {
				r.MaxBody = u.MaxBody
			}
		}
		match := path + ".match"
		if !c.usable(match) {
			continue
		}
		if err := checkPattern(r.Match); err != nil {
			c.src.at(match, "%v%s", err, c.src.got(match))
			continue
		}
		if strip := path + ".strip_prefix"; c.usable(strip) && !beginsWith(r.Match, r.StripPrefix) {
			c.src.at(strip, "must be the beginning of the path that match has, in whole segments without wildcards%s", c.src.got(strip))
		}
		if j, ok := same[r.Match]; ok {
			c.src.at(match, "is the same pattern as %s", c.other(j))
			continue
		}
		if urlpath.RegisterPattern(mux, r.Match) == nil {
			registered = append(registered, i)
			same[r.Match] = i
			continue
		}
		// The mux says only in prose which one it conflicts with.
		j := slices.IndexFunc(registered, func(j int) bool {
			pair := http.NewServeMux()
			return urlpath.RegisterPattern(pair, c.cfg.Routes[j].Match) == nil && urlpath.RegisterPattern(pair, r.Match) != nil
		})
		c.src.at(match, "conflicts with %s: some requests match both, and neither is more specific%s",
			c.other(registered[max(0, j)]), c.src.got(match))
	}
}

// routeChoices sees to what excludes each other in a route.
func (c *checker) routeChoices(path string, r *Route) {
	if r.Public && r.Endpoint != "" {
		c.src.at(path+".auth", "none is only for a route without an endpoint: who is counted needs a token")
	}
	if r.Upgrade && r.Endpoint != "" {
		c.src.at(path+".upgrade", "allow is only for a route without an endpoint: nothing is counted after a change of protocols")
	}
	if r.Observe && r.Endpoint == "" && !c.src.failed[path+".endpoint"] {
		c.src.at(path+".mode", "observe is only for a route with an endpoint: without one nothing is limited")
	}
	user, plan := path+".user_header", path+".plan_header"
	for _, header := range []string{user, plan} {
		if r.Public && c.usable(header) {
			c.src.at(header, "is only for a route with auth: jwt; without a token there is no user")
		}
	}
	if c.usable(user, plan) && r.UserHeader == r.PlanHeader {
		c.src.at(plan, "must be another field than user_header%s", c.src.got(plan))
	}
}

// beginsWith reports whether the path of a pattern begins with the segments of
// prefix, a path without a slash at its end.
func beginsWith(pattern, prefix string) bool {
	segments := strings.Split(pattern[strings.IndexByte(pattern, '/')+1:], "/")
	for i, p := range strings.Split(prefix[1:], "/") {
		if i >= len(segments) || strings.Contains(segments[i], "{") {
			return false
		}
		if urlpath.DecodeSegment(segments[i]) != urlpath.DecodeSegment(p) {
			return false
		}
	}
	return true
}

// other names route j in a message.
func (c *checker) other(j int) string {
	match := index("routes", j) + ".match"
	return fmt.Sprintf("%s of %s on line %d", c.src.places[match].text, index("routes", j), c.src.line(match))
}

var methodRule = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // a token of RFC 9110

// checkPattern says why a route cannot have a pattern. A pattern that http.ServeMux
// accepts is refused when no request can ever match it.
func checkPattern(pattern string) error {
	rest := pattern
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		if err := checkMethod(pattern[:i]); err != nil {
			return err
		}
		rest = strings.TrimLeft(pattern[i:], " \t")
	}
	if !strings.Contains(rest, "/") {
		return errors.New(`must contain a path, such as "GET /api/items"`)
	}
	_, host, path := urlpath.SplitPattern(pattern)
	if host != "" && (!urlpath.IsHostName(host) || host != strings.ToLower(host)) {
		return errors.New("must have a host in lower case without a port or a final dot, or no host; everything before the first / of the path is the host")
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		if strings.Contains(s, "{") || s == "" && last {
			continue
		}
		if err := checkSegment(s); err != nil {
			return err
		}
	}
	if urlpath.DecodeSegment(segments[0]) == "usage" {
		return errors.New("must not be /usage or below it; these paths belong to the gateway")
	}
	if err := urlpath.RegisterPattern(http.NewServeMux(), pattern); err != nil {
		message := err.Error() // parsing "...": at offset 5: bad wildcard ...
		return fmt.Errorf("must be a pattern of http.ServeMux:%s", message[strings.LastIndex(message, ": ")+1:])
	}
	return nil
}

func checkMethod(method string) error {
	switch upper := strings.ToUpper(method); {
	case !methodRule.MatchString(method):
		return errors.New(`must begin with a method such as GET, a host or a path: "GET /api/items"`)
	case method != upper && slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, upper):
		return fmt.Errorf("must have its method in upper case, %s: methods are case-sensitive", upper)
	case upper == http.MethodConnect || upper == http.MethodTrace:
		return fmt.Errorf("must have another method: %s cannot be routed", upper)
	}
	return nil
}

// checkSegment checks a literal segment of a path.
func checkSegment(s string) error {
	if _, err := url.PathUnescape(s); err != nil {
		return errors.New("must have two hexadecimal digits after each % of its path; write a % itself as %25")
	}
	if err := urlpath.CheckSegment(s); err != nil {
		return fmt.Errorf("must be a path that the gateway accepts in requests: %w", err)
	}
	if strings.ContainsAny(s, "?# \t") {
		return errors.New("must have a path without a query, a fragment or blanks (write a space as %20)")
	}
	return nil
}

// checkPath checks a path without wildcards that is used as it stands. It must have the
// form that the gateway gives to the paths of requests.
func checkPath(text string) error {
	if !strings.HasPrefix(text, "/") {
		return errors.New("must begin with a slash")
	}
	segments := strings.Split(text[1:], "/")
	for i, s := range segments {
		if s == "" && i == len(segments)-1 {
			continue
		}
		if err := checkSegment(s); err != nil {
			return err
		}
	}
	if canonical, _ := urlpath.Canonicalize(text); canonical != text {
		return errors.New("must have escapes where they are needed and only there, in upper case (ö as %C3%B6, ~ as it is)")
	}
	return nil
}
